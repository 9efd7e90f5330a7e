// Work on torch's threads, and memory for each of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <torch/csrc/stable/ops.h>

namespace segma {

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

// What memory is for.
enum class Use { task, packed };

// Memory aligned to 64 bytes. What a thread needs is kept from call to call while it is small, apart for each use:
// fresh pages cost more than the arithmetic.
class Memory {
 public:
  explicit Memory(size_t bytes) : owned_(new char[bytes + ALIGNMENT]), start_(align(owned_.get())) {}

  template <Use>
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
