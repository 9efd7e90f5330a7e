// The kernels without matrix units: the first launch, few dimensions, and any number of them coordinate by coordinate.
#include "cuda/kernels.h"

namespace segma::cuda {
namespace {

__global__ void __launch_bounds__(PREPARERS, 1) prepare(const __grid_constant__ Work work) {
  prepare_points(work);
}

template <int DIM>
Kernel of_dimension(bool gradient, bool exact) {
  if (exact) {
    return gradient ? &few_dimensions<float, float, DIM, true, true> : &few_dimensions<float, float, DIM, false, true>;
  }
  return gradient ? &few_dimensions<float, float, DIM, true, false> : &few_dimensions<float, float, DIM, false, false>;
}

template <class Stored>
Kernel of_a_line(bool gradient) {
  return gradient ? &few_dimensions<double, Stored, 1, true, false> : &few_dimensions<double, Stored, 1, false, false>;
}

template <bool EXACT>
Kernel of_many(bool float64, bool prepared, int dim, bool gradient) {
  if (float64) return gradient ? &simt<double, false, 1, true, EXACT> : &simt<double, false, 1, false, EXACT>;
  if (!prepared) return gradient ? &simt<float, false, 1, true, EXACT> : &simt<float, false, 1, false, EXACT>;
  if (!gradient) return &simt<float, true, 1, false, EXACT>;
  return dim <= 16 ? &simt<float, true, 1, true, EXACT> : &simt<float, true, 4, true, EXACT>;
}

}  // namespace

Kernel prepare_kernel() {
  return &prepare;
}

Kernel simt_kernel(bool float64, bool prepared, int dim, bool gradient, bool exact) {
  return exact ? of_many<true>(float64, prepared, dim, gradient) : of_many<false>(float64, prepared, dim, gradient);
}

Kernel few_dimensions_kernel(int dim, bool float64, bool gradient, bool exact) {
  switch (dim) {
    case 1:
      return float64 ? of_a_line<double>(gradient) : of_a_line<float>(gradient);
    case 2:
      return of_dimension<2>(gradient, exact);
    case 3:
      return of_dimension<3>(gradient, exact);
    case 4:
      return of_dimension<4>(gradient, exact);
    case 5:
      return of_dimension<5>(gradient, exact);
    case 6:
      return of_dimension<6>(gradient, exact);
    case 7:
      return of_dimension<7>(gradient, exact);
    default:
      return of_dimension<8>(gradient, exact);
  }
}

}  // namespace segma::cuda
