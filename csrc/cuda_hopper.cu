#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

template <int WIDTH>
Kernel of_width(bool low, bool gradient) {
  if (low) return gradient ? &hopper<WIDTH, true, true> : &hopper<WIDTH, true, false>;
  return gradient ? &hopper<WIDTH, false, true> : &hopper<WIDTH, false, false>;
}

}  // namespace

Kernel hopper_kernel(int width, bool low, bool gradient) {
  switch (width) {
    case 16:
      return of_width<16>(low, gradient);
    case 32:
      return of_width<32>(low, gradient);
    case 64:
      return of_width<64>(low, gradient);
    default:
      return of_width<128>(low, gradient);
  }
}

}  // namespace segma::cuda
