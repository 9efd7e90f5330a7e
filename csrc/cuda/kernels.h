// The kernels by what they serve, and their launch; each family is compiled in a file of its own.
#pragma once

#include "cuda/few_dimensions.h"
#include "cuda/wgmma.h"

namespace segma::cuda {

using Kernel = void (*)(Work);
constexpr int FINE_WIDEST = 64;  // of Hopper's kernels with weights in two halves, which need registers

Kernel prepare_kernel();
Kernel mma_kernel(int width, bool low, bool gradient, bool exact);
Kernel wgmma_kernel(int width, bool low, bool fine, bool gradient, bool exact);
Kernel simt_kernel(bool float64, bool prepared, int dim, bool gradient, bool exact);
Kernel few_dimensions_kernel(int dim, bool float64, bool gradient, bool exact);

// Of a family, the kernel for a width (a power of two from 16 on), with or without low halves and a gradient.
template <class Family, bool EXACT, int WIDTH = 16>
Kernel choose(int width, bool low, bool gradient) {
  if constexpr (WIDTH < Family::WIDEST) {
    if (width > WIDTH) return choose<Family, EXACT, 2 * WIDTH>(width, low, gradient);
  }
  if (low)
    return gradient ? Family::template kernel<WIDTH, true, true, EXACT>
                    : Family::template kernel<WIDTH, true, false, EXACT>;
  return gradient ? Family::template kernel<WIDTH, false, true, EXACT>
                  : Family::template kernel<WIDTH, false, false, EXACT>;
}

struct Machine {
  int major, minor, processors, shared;  // compute capability, multiprocessors, most bytes of shared memory of a block
  bool wgmma;                            // whether the kernels for it were compiled
};

}  // namespace segma::cuda
