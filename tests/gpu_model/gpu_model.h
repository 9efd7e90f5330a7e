// A GPU on the host, for tests: the same kernels, thread by thread, on one core.
//
// Every thread of a block is a fiber; the threads of a warp, of a warpgroup or of a barrier meet where the GPU makes
// them meet, and a block that cannot go on is an error. What the GPU does in the background happens here as late as it
// may: copies when someone has waited for them, products of warpgroups when they are waited for. So whoever reads too
// early reads what was there before. GPU_MODEL_ORDER=reverse runs threads and blocks from the last to the first: a
// result that depends on who comes first differs.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fibers.h"

#define __global__
#define __launch_bounds__(...)
#define __grid_constant__

namespace segma::gpu {

constexpr int WARP = 32, WARPGROUP = 128, BARRIERS = 16, SHARED_START = 16;

struct Meeting {  // of as many threads as are expected
  int arrived = 0;
  uint64_t generation = 0;
  const void* what = nullptr;
  void* arguments[WARPGROUP];
};

struct Product {  // of a warpgroup, not yet done
  std::function<void()> run;
  bool committed = false;
};

struct Copy {  // of 16 bytes by one thread, or of many by the copy engine
  void* to;
  const void* from;
  size_t bytes;
  uint32_t barrier;
};

struct Block {
  int threads, x, y, z, blocks_x;
  std::vector<char> memory;
  char* shared;  // aligned as on the GPU, and no better
  std::vector<Meeting> warps, groups;
  Meeting barriers[BARRIERS];
  std::vector<std::deque<Product>> products;
  std::vector<std::vector<std::vector<Copy>>> copies;  // by thread: groups, the last of them open
  std::deque<Copy> bulk;
  uint64_t events = 0;
};

inline thread_local Block* block = nullptr;

inline void require(bool condition, const char* message) {
  if (!condition) fail(message);
}

inline int thread() {
  return current_fiber();
}
inline int block_x() {
  return block->x;
}
inline int block_y() {
  return block->y;
}
inline int64_t block_z() {
  return block->z;
}
inline int64_t kept_block_z() {
  return block->z;
}
inline int blocks_x() {
  return block->blocks_x;
}
inline char* shared_memory() {
  return block->shared;
}
inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const char*>(pointer) - block->shared) + SHARED_START;
}
inline char* at_address(uint32_t address) {
  require(address < block->memory.size(), "an address beyond the shared memory");
  return block->shared + address - SHARED_START;
}

// All threads of a meeting bring their arguments; the last to come does the work for all.
template <class Arguments, class Work>
void meet(Meeting& meeting, int expected, int place, const void* what, Arguments& arguments, Work work) {
  require(meeting.arrived == 0 || meeting.what == what, "threads of a warp are at different instructions");
  meeting.what = what;
  meeting.arguments[place] = &arguments;
  if (++meeting.arrived < expected) {
    const uint64_t seen = meeting.generation;
    return wait_for_change(&meeting.generation, seen);
  }
  work(reinterpret_cast<Arguments**>(meeting.arguments));
  meeting.arrived = 0;
  ++meeting.generation;
}

template <class Arguments, class Work>
void meet_warp(const void* what, Arguments& arguments, Work work) {
  meet(block->warps[thread() / WARP], WARP, thread() % WARP, what, arguments, work);
}

template <class Arguments, class Work>
void meet_group(const void* what, Arguments& arguments, Work work) {
  meet(block->groups[thread() / WARPGROUP], WARPGROUP, thread() % WARPGROUP, what, arguments, work);
}

inline void arrive(int id, int expected) {
  Meeting& meeting = block->barriers[id];
  if (++meeting.arrived < expected) return;
  require(meeting.arrived == expected, "more threads at a barrier than it expects");
  meeting.arrived = 0;
  ++meeting.generation;
}
inline void barrier(int id, int expected) {
  const uint64_t seen = block->barriers[id].generation;
  arrive(id, expected);
  wait_for_change(&block->barriers[id].generation, seen);
}
inline void warp_barrier() {
  static const char what = 0;
  int none = 0;
  meet_warp(&what, none, [](int**) {});
}

inline uint32_t uniform(uint32_t value) {
  return value;
}

template <class T>
T shuffle_xor(T value, int mask) {
  static const char what = 0;
  T pair[2] = {value, value};
  struct Both {
    T *given, *found;
    int mask;
  } both{&pair[0], &pair[1], mask};
  meet_warp(&what, both, [](Both** lanes) {
    for (int lane = 0; lane < WARP; ++lane) *lanes[lane]->found = *lanes[lane ^ lanes[lane]->mask]->given;
  });
  return pair[1];
}

inline int count_up(int* counter) {
  return (*counter)++;
}

template <class T>
T load_fresh(const T* place) {
  return *place;
}

inline float inverse_root(float x) {
  return 1.0f / std::sqrt(x);
}
inline double inverse_root(double x) {
  return 1.0 / std::sqrt(x);
}

inline float from_half(uint16_t bits) {
  _Float16 half;
  std::memcpy(&half, &bits, 2);
  return static_cast<float>(half);
}
inline uint16_t to_half(float x) {
  const _Float16 half = static_cast<_Float16>(x);
  uint16_t bits;
  std::memcpy(&bits, &half, 2);
  return bits;
}
inline uint32_t pack_halves(float first, float second) {
  return to_half(first) | uint32_t(to_half(second)) << 16;
}

template <class To, class From>
To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

}  // namespace segma::gpu

#include "matrix_units.h"
#include "memory_engines.h"

namespace segma::gpu {

inline bool reversed() {
  const char* order = std::getenv("GPU_MODEL_ORDER");
  return order != nullptr && std::string(order) == "reverse";
}

// Runs a kernel, block by block.
template <class Body>
void run_grid(int x, int y, int z, int threads, size_t shared_bytes, const Body& body) {
  const bool last_first = reversed();
  const uint32_t noise = 0xffc1a5edu;  // a NaN in all formats: what was not written
  for (int index = 0; index < x * y * z; ++index) {
    const int number = last_first ? x * y * z - 1 - index : index;
    Block here{threads, number % x, number / x % y, number / (x * y), x, {}, nullptr, {}, {}, {}, {}, {}, {}, 0};
    here.memory.resize(SHARED_START + shared_bytes + 1024);
    for (size_t i = 0; i + 4 <= here.memory.size(); i += 4) std::memcpy(&here.memory[i], &noise, 4);
    // the vector's memory, moved so that its alignment is SHARED_START within 1024 bytes
    const uintptr_t start = reinterpret_cast<uintptr_t>(here.memory.data());
    here.shared = here.memory.data() + ((SHARED_START - start) & 1023);
    here.memory.resize(SHARED_START + shared_bytes + 1024);
    here.warps.resize((threads + WARP - 1) / WARP);
    here.groups.resize((threads + WARPGROUP - 1) / WARPGROUP);
    here.products.resize(here.groups.size());
    here.copies.assign(threads, {{}});
    block = &here;
    run_fibers(threads, last_first, body, [] { return finish_one_bulk_copy(); });
    block = nullptr;
    uint32_t beyond;
    for (const char* i = here.shared + shared_bytes; i + 4 <= here.memory.data() + here.memory.size(); i += 4) {
      std::memcpy(&beyond, i, 4);
      if (beyond != noise && (i - here.memory.data()) % 4 == 0) throw std::runtime_error("shared memory was overrun");
    }
  }
}

}  // namespace segma::gpu
