// Instructions of all GPUs from compute capability 8.0 on, by the names that the kernels use.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cfloat>
#include <cstdint>

#define SEGMA_INSTRUCTION __device__ __forceinline__

namespace segma::gpu {

SEGMA_INSTRUCTION int thread() {
  const int index = static_cast<int>(threadIdx.x);
  __builtin_assume(index >= 0);  // so that divisions by powers of two are shifts
  return index;
}
// Read anew at every call: so what follows from it need not be kept in registers from one use to the next.
SEGMA_INSTRUCTION int block_x() {
  int index;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(index));
  return index;
}
SEGMA_INSTRUCTION int block_y() {
  int index;
  asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(index));
  return index;
}
SEGMA_INSTRUCTION int64_t block_z() {
  uint32_t index;
  asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(index));
  return index;
}
SEGMA_INSTRUCTION int64_t kept_block_z() {  // for loops
  return blockIdx.z;
}
SEGMA_INSTRUCTION int blocks_x() {
  return static_cast<int>(gridDim.x);
}
SEGMA_INSTRUCTION char* shared_memory() {
  extern __shared__ __align__(16) char memory[];
  return memory;
}
SEGMA_INSTRUCTION uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Threads of a block that meet at one of its 16 barriers; `arrive` does not wait for the others.
SEGMA_INSTRUCTION void barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
SEGMA_INSTRUCTION void arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
SEGMA_INSTRUCTION void warp_barrier() {
  __syncwarp();
}
template <class T>
SEGMA_INSTRUCTION T shuffle_xor(T value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}

// What is the same in all lanes of a warp, so that the compiler knows.
SEGMA_INSTRUCTION uint32_t uniform(uint32_t value) {
  return __shfl_sync(0xffffffffu, value, 0);
}

// One thread of a block, between two barriers of it: what the block wrote before can be seen by the block that counts
// next.
SEGMA_INSTRUCTION int count_up(int* counter) {
  __threadfence();
  const int before = atomicAdd(counter, 1);
  __threadfence();
  return before;
}
// What other blocks wrote before they counted.
template <class T>
SEGMA_INSTRUCTION T load_fresh(const T* place) {
  return __ldcg(place);
}

SEGMA_INSTRUCTION float inverse_root(float x) {
  float root;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}
SEGMA_INSTRUCTION double inverse_root(double x) {
  return rsqrt(x);
}

SEGMA_INSTRUCTION float from_half(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}
SEGMA_INSTRUCTION uint16_t to_half(float x) {
  return __half_as_ushort(__float2half_rn(x));
}
SEGMA_INSTRUCTION uint32_t pack_halves(float first, float second) {
  uint32_t both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
}

template <class To, class From>
SEGMA_INSTRUCTION To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// Four matrices of 8 rows of 16 bytes; lane 8 i + r gives the address of row r of the i-th.
SEGMA_INSTRUCTION void load_matrices(uint32_t (&found)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(found[0]), "=r"(found[1]), "=r"(found[2]), "=r"(found[3])
               : "r"(address)
               : "memory");
}
SEGMA_INSTRUCTION void load_matrices_transposed(uint32_t (&found)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(found[0]), "=r"(found[1]), "=r"(found[2]), "=r"(found[3])
               : "r"(address)
               : "memory");
}
// sums (16, 8) += a (16, 16) b (16, 8)
SEGMA_INSTRUCTION void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b_first, uint32_t b_second) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_first), "r"(b_second));
}

// Copies to shared memory in the background, in groups.
SEGMA_INSTRUCTION void copy_16_bytes(uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(__cvta_generic_to_global(from)) : "memory");
}
SEGMA_INSTRUCTION void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int LATEST>
SEGMA_INSTRUCTION void wait_for_copies() {  // of this thread, all but the latest groups
  asm volatile("cp.async.wait_group %0;" ::"n"(LATEST) : "memory");
}

}  // namespace segma::gpu
