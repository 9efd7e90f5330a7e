#include "cuda_kernels.h"

namespace segma::cuda {
namespace {

__global__ void __launch_bounds__(TEAM, 4) prepare(const __grid_constant__ Work work) {
  prepare_points(work);
}

template <int DIM>
Kernel of_dimension(bool gradient) {
  return gradient ? &few<float, float, DIM, true> : &few<float, float, DIM, false>;
}

template <class Stored>
Kernel of_a_line(bool gradient) {
  return gradient ? &few<double, Stored, 1, true> : &few<double, Stored, 1, false>;
}

}  // namespace

Kernel prepare_kernel() {
  return &prepare;
}

Kernel dense_kernel(bool twice, bool prepared, int dim, bool gradient) {
  if (twice) return gradient ? &dense<double, false, 1, true> : &dense<double, false, 1, false>;
  if (!prepared) return gradient ? &dense<float, false, 1, true> : &dense<float, false, 1, false>;
  if (!gradient) return &dense<float, true, 1, false>;
  return dim <= 16 ? &dense<float, true, 1, true> : &dense<float, true, 4, true>;
}

Kernel few_kernel(int dim, bool twice, bool gradient) {
  switch (dim) {
    case 1:
      return twice ? of_a_line<double>(gradient) : of_a_line<float>(gradient);
    case 2:
      return of_dimension<2>(gradient);
    case 3:
      return of_dimension<3>(gradient);
    case 4:
      return of_dimension<4>(gradient);
    case 5:
      return of_dimension<5>(gradient);
    case 6:
      return of_dimension<6>(gradient);
    case 7:
      return of_dimension<7>(gradient);
    default:
      return of_dimension<8>(gradient);
  }
}

}  // namespace segma::cuda
