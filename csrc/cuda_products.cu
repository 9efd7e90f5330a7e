#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

struct Products {
  static constexpr int WIDEST = 256;
  template <int WIDTH, bool LOW, bool GRADIENT>
  static constexpr Kernel kernel = &products<WIDTH, LOW, GRADIENT>;
};

}  // namespace

Kernel products_kernel(int width, bool low, bool gradient) {
  return choose<Products>(width, low, gradient);
}

}  // namespace segma::cuda
