// Launches on the model: at once, on the memory of CPU tensors. GPU_MODEL_MACHINE=MAJOR.MINOR names the GPU that is
// modelled.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>

#include "common/tensors.h"
#include "cuda/kernels.h"

#define SEGMA_GPU_KEY CPU

namespace segma::cuda {

class Stream {
 public:
  explicit Stream(const Tensor&) {
    const char* named = std::getenv("GPU_MODEL_MACHINE");
    const std::string name = named == nullptr ? "9.0" : named;
    machine_.major = name[0] - '0';
    machine_.minor = name[2] - '0';
    const bool roomy = name == "9.0" || name == "8.0" || name == "10.0";
    machine_.shared = name == "9.0" ? 232448 : name == "8.0" ? 166912 : roomy ? 232448 : 101376;
    machine_.processors = 4;
    machine_.wgmma = true;
  }
  static bool serves(const Tensor& tensor) { return tensor.is_cpu(); }
  void set_to_zero(void* place, size_t bytes) const { std::memset(place, 0, bytes); }
  const Machine& machine() const { return machine_; }

 private:
  Machine machine_{};
};

inline void launch(Kernel kernel, int x, int y, int z, int threads, int shared, const Stream&, const Work& work) {
  gpu::run_grid(x, y, z, threads, static_cast<size_t>(shared), [&] { kernel(work); });
}

}  // namespace segma::cuda
