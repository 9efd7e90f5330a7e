// The kernels by mma.sync, for all GPUs.
#include "cuda/kernels.h"

namespace segma::cuda {
namespace {

struct Mma {
  static constexpr int WIDEST = 256;
  template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
  static constexpr Kernel kernel = &mma<WIDTH, LOW, GRADIENT, EXACT>;
};

}  // namespace

Kernel mma_kernel(int width, bool low, bool gradient, bool exact) {
  return exact ? choose<Mma, true>(width, low, gradient) : choose<Mma, false>(width, low, gradient);
}

}  // namespace segma::cuda
