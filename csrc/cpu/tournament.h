// The order of tasks: each pair of blocks once, in rounds in which every block meets one other or itself.
//
// Threads take matches in this order. A block's n-th match writes after its first n - 1, so sums over matches have
// one order, whatever the number of threads; and no two write to a block at once. A match that waits does so for
// earlier ones, which running threads hold, so none waits forever.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include <torch/csrc/stable/ops.h>

namespace segma {

struct Match {
  int64_t round, first, second;  // first <= second
};

class Tournament {
 public:
  explicit Tournament(int64_t blocks) : blocks_(blocks), played_(blocks) {}

  // The next match, or false when all are taken.
  bool take(Match& match) {
    const int64_t index = next_.fetch_add(1);
    if (index >= blocks_ * (blocks_ + 1) / 2) return false;
    match = at(index);
    return true;
  }

  void wait_for_turn(const Match& match) const {
    for (int64_t spins = 0; !ready(match); ++spins) {
      if (spins > 100) std::this_thread::yield();
    }
  }

  void finish(const Match& match) {
    played_[match.first].store(match.round + 1, std::memory_order_release);
    played_[match.second].store(match.round + 1, std::memory_order_release);
  }

 private:
  // By the circle method; an odd number's odd one out meets itself, an even number's meet themselves in a last round.
  Match at(int64_t index) const {
    const int64_t players = blocks_ + blocks_ % 2, pairs = players / 2, circle = players - 1;
    const int64_t round = index / pairs, place = index % pairs;
    if (round >= circle) {
      const int64_t own = index - circle * pairs;
      return {circle, own, own};
    }
    const int64_t first = (round + place) % circle;
    int64_t second = place == 0 ? circle : (round - place + circle) % circle;
    if (second == blocks_) second = first;
    return {round, std::min(first, second), std::max(first, second)};
  }

  bool ready(const Match& match) const {
    return played_[match.first].load(std::memory_order_acquire) == match.round &&
           played_[match.second].load(std::memory_order_acquire) == match.round;
  }

  int64_t blocks_;
  std::atomic<int64_t> next_{0};
  std::vector<std::atomic<int64_t>> played_;
};

// Runs `function` on so many of torch's threads that each has something worth waking it for.
template <class F>
void in_parallel(double cycles, const F& function) {
  constexpr double WORTH_A_THREAD = 3e4;
  const double most = torch::stable::get_num_threads();
  const auto threads = static_cast<int64_t>(std::min(most, cycles / WORTH_A_THREAD));
  if (threads <= 1) {
    function();
  } else {
    torch::stable::parallel_for(0, threads, 1, [&](int64_t, int64_t) { function(); });
  }
}

// Memory aligned to 64 bytes. What a thread needs for its tasks is kept from call to call while it is small: fresh
// pages cost more than the arithmetic.
class Memory {
 public:
  explicit Memory(size_t bytes) : owned_(new char[bytes + ALIGNMENT]), start_(align(owned_.get())) {}

  static Memory of_this_thread(size_t bytes) {
    thread_local std::unique_ptr<char[]> kept;
    thread_local size_t size = 0;
    if (bytes > MOST_KEPT) return Memory(bytes);
    if (bytes > size) {
      kept.reset(new char[bytes + ALIGNMENT]);
      size = bytes;
    }
    return Memory(kept);
  }

  char* start() const { return start_; }

 private:
  static constexpr size_t MOST_KEPT = size_t{4} << 20, ALIGNMENT = 64;

  explicit Memory(const std::unique_ptr<char[]>& kept) : start_(align(kept.get())) {}

  static char* align(char* memory) {
    return memory + (ALIGNMENT - reinterpret_cast<uintptr_t>(memory) % ALIGNMENT) % ALIGNMENT;
  }

  std::unique_ptr<char[]> owned_;
  char* start_;
};

}  // namespace segma
