#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

template <int WIDTH>
Kernel of_width(bool low, bool gradient) {
  if (low) return gradient ? &products<WIDTH, true, true> : &products<WIDTH, true, false>;
  return gradient ? &products<WIDTH, false, true> : &products<WIDTH, false, false>;
}

}  // namespace

Kernel products_kernel(int width, bool low, bool gradient) {
  switch (width) {
    case 16:
      return of_width<16>(low, gradient);
    case 32:
      return of_width<32>(low, gradient);
    case 64:
      return of_width<64>(low, gradient);
    case 128:
      return of_width<128>(low, gradient);
    default:
      return of_width<256>(low, gradient);
  }
}

}  // namespace segma::cuda
