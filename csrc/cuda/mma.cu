#include "cuda/kernels.h"

namespace segma::cuda {
namespace {

struct Products {
  static constexpr int WIDEST = 256;
  template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
  static constexpr Kernel kernel = &products<WIDTH, LOW, GRADIENT, EXACT>;
};

}  // namespace

Kernel products_kernel(int width, bool low, bool gradient, bool exact) {
  return exact ? choose<Products, true>(width, low, gradient) : choose<Products, false>(width, low, gradient);
}

}  // namespace segma::cuda
