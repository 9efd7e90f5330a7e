// Copies from global to shared memory: cp.async of a thread, and the bulk copies of the engine with their barriers.
#pragma once

namespace segma::gpu {

// ---- cp.async: done when the thread that asked for it waits

inline void copy_16_bytes(uint32_t to, const void* from) {
  require(to % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0, "cp.async: not aligned to 16 bytes");
  block->copies[thread()].back().push_back({at_address(to), from, 16, 0});
}
inline void commit_copies() {
  block->copies[thread()].emplace_back();
}
template <int LATEST>
void wait_for_copies() {  // all but the latest groups
  auto& groups = block->copies[thread()];
  while (groups.size() > size_t(LATEST) + 1) {
    for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    groups.erase(groups.begin());
  }
}

// ---- mbarrier, in 8 bytes of shared memory

struct Phase {
  uint16_t expected, pending : 15, parity : 1;
  int32_t bytes;

  void settle() {
    if (pending > 0 || bytes != 0) return;
    pending = expected;
    parity = !parity;
  }
};
static_assert(sizeof(Phase) == 8);

inline Phase& phase_at(uint32_t address) {
  require(address % 8 == 0, "mbarrier: not aligned to 8 bytes");
  return *reinterpret_cast<Phase*>(at_address(address));
}
inline void make_barrier(uint32_t address, int expected) {
  Phase& phase = phase_at(address);
  phase.expected = phase.pending = static_cast<uint16_t>(expected);
  phase.parity = 0;
  phase.bytes = 0;
}
inline void barriers_are_made() {}
inline void arrive_at(uint32_t address, int bytes = 0) {
  Phase& phase = phase_at(address);
  require(phase.pending > 0, "mbarrier: more arrivals than expected");
  phase.bytes += bytes;
  phase.pending = phase.pending - 1;
  phase.settle();
  ++block->events;
}
inline void wait_at(uint32_t address, int parity) {
  while (phase_at(address).parity == parity) wait_for_change(&block->events, block->events);
}

// ---- the copy engine: it starts when nobody else can go on

inline void copy_in_bulk(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  require(to % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0 && bytes % 16 == 0,
          "cp.async.bulk: not aligned to 16 bytes");
  block->bulk.push_back({at_address(to), from, size_t(bytes), barrier});
}
inline bool finish_one_bulk_copy() {
  if (block->bulk.empty()) return false;
  const Copy copy = block->bulk.front();
  block->bulk.pop_front();
  std::memcpy(copy.to, copy.from, copy.bytes);
  Phase& phase = phase_at(copy.barrier);
  phase.bytes -= static_cast<int32_t>(copy.bytes);
  phase.settle();
  ++block->events;
  return true;
}
inline void show_memory_to_engines() {}

}  // namespace segma::gpu
