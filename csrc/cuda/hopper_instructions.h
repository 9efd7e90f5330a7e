// Instructions of Hopper (sm_90a): products of a warpgroup on operands in shared memory, bulk copies and their
// barriers.
#pragma once

#include "cuda/instructions.h"

namespace segma::gpu {

// ---- barriers in shared memory that count arrivals and copied bytes

SEGMA_INSTRUCTION void make_barrier(uint32_t address, int expected) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address), "r"(expected) : "memory");
}
SEGMA_INSTRUCTION void barriers_are_made() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
SEGMA_INSTRUCTION void arrive_at(uint32_t address) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address) : "memory");
}
SEGMA_INSTRUCTION void arrive_at(uint32_t address, int bytes) {  // which are on their way
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes) : "memory");
}
SEGMA_INSTRUCTION void wait_at(uint32_t address, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}" ::"r"(address),
      "r"(parity)
      : "memory");
}
SEGMA_INSTRUCTION void copy_in_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
               : "memory");
}
// What this thread wrote to shared memory is seen by the matrix units and the copy engine.
SEGMA_INSTRUCTION void show_memory_to_engines() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- products of a warpgroup, in the background

// What products found is used after they were waited for, and the compiler moves no use of it to before.
template <int COUNT>
SEGMA_INSTRUCTION void use_products(float (&sums)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

SEGMA_INSTRUCTION void begin_products() {  // after registers that they use were written
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
SEGMA_INSTRUCTION void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
SEGMA_INSTRUCTION void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

#define SEGMA_SUMS_8(d, i)                                                                                    \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define SEGMA_SUMS_16(d, i) SEGMA_SUMS_8(d, i), SEGMA_SUMS_8(d, i + 8)
#define SEGMA_SUMS_32(d, i) SEGMA_SUMS_16(d, i), SEGMA_SUMS_16(d, i + 16)
#define SEGMA_SUMS_64(d, i) SEGMA_SUMS_32(d, i), SEGMA_SUMS_32(d, i + 32)

// sums (64, N) = a (64, 16) b (16, N), or added to them. In `multiply_memory` k is contiguous in both operands, in
// `multiply_registers` the other index of b.
template <int N>
SEGMA_INSTRUCTION void multiply_memory(float (&sums)[N / 2], uint64_t a, uint64_t b, bool add);
template <int N>
SEGMA_INSTRUCTION void multiply_registers(float (&sums)[N / 2], const uint32_t (&a)[4], uint64_t b, bool add);

template <>
SEGMA_INSTRUCTION void multiply_memory<128>(float (&sums)[64], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, "
      "%39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, "
      "%58, %59, %60, %61, %62, %63}, "
      "%64, %65, p, 1, 1, 0, 0;\n}"
      : SEGMA_SUMS_64(sums, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

template <>
SEGMA_INSTRUCTION void multiply_registers<16>(float (&sums)[8], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %13, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7}, "
      "{%8, %9, %10, %11}, %12, p, 1, 1, 1;\n}"
      : SEGMA_SUMS_8(sums, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

template <>
SEGMA_INSTRUCTION void multiply_registers<32>(float (&sums)[16], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
      "{%16, %17, %18, %19}, %20, p, 1, 1, 1;\n}"
      : SEGMA_SUMS_16(sums, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

template <>
SEGMA_INSTRUCTION void multiply_registers<64>(float (&sums)[32], const uint32_t (&a)[4], uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, "
      "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
      : SEGMA_SUMS_32(sums, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)));
}

// A warpgroup's share of the registers from here on; all of its threads.
template <int COUNT>
SEGMA_INSTRUCTION void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
SEGMA_INSTRUCTION void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

}  // namespace segma::gpu
