#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

struct Hopper {
  static constexpr int WIDEST = 128;
  template <int WIDTH, bool LOW, bool GRADIENT>
  static constexpr Kernel kernel = &hopper<WIDTH, LOW, GRADIENT>;
};

}  // namespace

Kernel hopper_kernel(int width, bool low, bool gradient) {
  return choose<Hopper>(width, low, gradient);
}

}  // namespace segma::cuda
