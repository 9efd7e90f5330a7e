// The kernels by wgmma, for Hopper.
#include "cuda/kernels.h"

namespace segma::cuda {
namespace {

template <bool FINE>
struct Wgmma {
  static constexpr int WIDEST = FINE ? FINE_WIDEST : 128;
  template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
  static constexpr Kernel kernel = &wgmma<WIDTH, LOW || FINE, FINE && GRADIENT, GRADIENT, EXACT>;
};

}  // namespace

Kernel wgmma_kernel(int width, bool low, bool fine, bool gradient, bool exact) {
  if (fine) {
    return exact ? choose<Wgmma<true>, true>(width, low, gradient) : choose<Wgmma<true>, false>(width, low, gradient);
  }
  return exact ? choose<Wgmma<false>, true>(width, low, gradient) : choose<Wgmma<false>, false>(width, low, gradient);
}

}  // namespace segma::cuda
