#include "cuda/kernels.h"

namespace segma::cuda {
namespace {

template <bool FINE>
struct Hopper {
  static constexpr int WIDEST = FINE ? FINE_WIDEST : 128;
  template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
  static constexpr Kernel kernel = &hopper<WIDTH, LOW || FINE, FINE && GRADIENT, GRADIENT, EXACT>;
};

}  // namespace

Kernel hopper_kernel(int width, bool low, bool fine, bool gradient, bool exact) {
  if (fine) {
    return exact ? choose<Hopper<true>, true>(width, low, gradient) : choose<Hopper<true>, false>(width, low, gradient);
  }
  return exact ? choose<Hopper<false>, true>(width, low, gradient) : choose<Hopper<false>, false>(width, low, gradient);
}

}  // namespace segma::cuda
