// The order of tasks: each pair of blocks once, in rounds in which every block meets one other or itself.
//
// Threads take matches in this order. A block's n-th match writes after its first n - 1, so sums over matches have
// one order, whatever the number of threads; and no two write to a block at once. A match that waits does so for
// earlier ones, which running threads hold, so none waits forever.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

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

}  // namespace segma
