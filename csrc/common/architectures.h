// Which GPUs the module has kernels for. csrc/cuda/ says it when it is loaded: for all other files nothing changes.
#pragma once

namespace segma {

inline const char* cuda_architectures = "";  // as in "8.0+PTX_9.0a"

}  // namespace segma
