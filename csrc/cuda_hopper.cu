#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

struct Hopper {
  static constexpr int WIDEST = 128;
  template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
  static constexpr Kernel kernel = &hopper<WIDTH, LOW, GRADIENT, EXACT>;
};

}  // namespace

Kernel hopper_kernel(int width, bool low, bool gradient, bool exact) {
  return exact ? choose<Hopper, true>(width, low, gradient) : choose<Hopper, false>(width, low, gradient);
}

}  // namespace segma::cuda
