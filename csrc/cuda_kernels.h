// The kernels by what they serve, and their launch; each family is compiled in a file of its own.
#pragma once

#include "cuda_few.h"
#include "cuda_hopper.h"

namespace segma::cuda {

using Kernel = void (*)(Work);

Kernel prepare_kernel();
Kernel products_kernel(int width, bool low, bool gradient);
Kernel hopper_kernel(int width, bool low, bool gradient);
Kernel dense_kernel(bool twice, bool prepared, int dim, bool gradient);
Kernel few_kernel(int dim, bool twice, bool gradient);

struct Machine {
  int major, minor, processors, shared;  // compute capability, multiprocessors, most bytes of shared memory of a block
  bool hopper;                           // whether the kernels for it were compiled
};

}  // namespace segma::cuda
