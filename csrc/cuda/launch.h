// Launches, on the current stream of the tensors' device; what CUDA refuses becomes an exception.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "common/architectures.h"
#include "common/tensors.h"
#include "cuda/kernels.h"

#define SEGMA_GPU_KEY CUDA
#define SEGMA_TEXT(...) #__VA_ARGS__
#define SEGMA_EXPANDED_TEXT(...) SEGMA_TEXT(__VA_ARGS__)

namespace segma::cuda {

[[maybe_unused]] static const bool told =
    (cuda_architectures = SEGMA_EXPANDED_TEXT(SEGMA_CUDA_ARCHITECTURES)) != nullptr;

inline void check(cudaError_t error, const char* what) {
  STD_TORCH_CHECK(error == cudaSuccess, what, ": ", cudaGetErrorName(error), ", ", cudaGetErrorString(error));
}

class Stream {
 public:
  // Makes the tensor's device the current one while the object lives.
  explicit Stream(const Tensor& like) : device_(like.get_device_index()), guard_(device_) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    handle = static_cast<cudaStream_t>(stream);
  }
  static bool serves(const Tensor& tensor) { return tensor.is_cuda(); }

  void set_to_zero(void* place, size_t bytes) const {
    check(cudaMemsetAsync(place, 0, bytes, handle), "setting memory to zero");
  }

  // SEGMA_FAST_CUDA_WGMMA=0 has Hopper served by the kernels of all GPUs, to compare.
  Machine machine() const {
    static std::mutex mutex;
    static std::vector<Machine> machines;
    const std::lock_guard<std::mutex> lock(mutex);
    while (machines.size() <= size_t(device_)) machines.push_back({});
    Machine& known = machines[device_];
    if (known.major == 0) {
      const auto ask = [&](cudaDeviceAttr what) {
        int value = 0;
        check(cudaDeviceGetAttribute(&value, what, device_), "asking for an attribute of the device");
        return value;
      };
      known.minor = ask(cudaDevAttrComputeCapabilityMinor);
      known.processors = ask(cudaDevAttrMultiProcessorCount);
      known.shared = ask(cudaDevAttrMaxSharedMemoryPerBlockOptin);
      known.wgmma = std::string(cuda_architectures).find("9.0a") != std::string::npos;
      known.major = ask(cudaDevAttrComputeCapabilityMajor);
    }
    Machine found = known;
    const char* wanted = std::getenv("SEGMA_FAST_CUDA_WGMMA");
    if (wanted != nullptr && std::string(wanted) == "0") found.wgmma = false;
    return found;
  }

  cudaStream_t handle;

 private:
  int device_;
  torch::stable::accelerator::DeviceGuard guard_;
};

inline void launch(Kernel kernel, int x, int y, int z, int threads, int shared, const Stream& stream,
                   const Work& work) {
  if (shared > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
          "asking for shared memory");
  }
  kernel<<<dim3(x, y, z), threads, shared, stream.handle>>>(work);
  check(cudaGetLastError(), "launching a kernel");
}

}  // namespace segma::cuda
#else
#include <launch_model.h>
#endif
