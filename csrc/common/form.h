// A form of phi_D as kernels take it: the slope c and the polynomial Q of profile.h.
#pragma once

#ifdef __CUDACC__
#define SEGMA_HOST_DEVICE __host__ __device__
#elif defined(__GNUC__)
#define SEGMA_HOST_DEVICE __attribute__((always_inline))  // into callers of any instruction set
#else
#define SEGMA_HOST_DEVICE
#endif

namespace segma {

constexpr double INV_SQRT_PI = 0.56418958354775628695;
constexpr int MOST_DEGREE = 63;  // of Q; about 40 at D = 2 in double

SEGMA_HOST_DEVICE constexpr double slope(long long dim) {  // 1 in one dimension, whose form does not need it
  return dim > 1 ? 4.0 / (2.0 * static_cast<double>(dim) - 3.0) : 1.0;
}

SEGMA_HOST_DEVICE constexpr double exact_slope(long long dim) {
  return 2.0 / (static_cast<double>(dim) + 12.0);
}

// A form of phi_D: c, and Q in powers of 2 tau - 1, the lowest first.
struct Form {
  double slope;
  int degree;
  double coefficients[MOST_DEGREE + 1];
};

// A greatest c|x|^2/h that is stated for the paper's c: what a shift of t changes in k does not depend on c.
inline double resolved(const Form& form, long long dim, double limit) {
  return limit * form.slope / slope(dim);
}

// No less than the degree of Q in float32 in `dim` dimensions and more: for loops that are unrolled.
SEGMA_HOST_DEVICE constexpr int float32_degree(int dim) {
  return dim <= 8 ? 19 - dim : dim <= 10 ? 11 : dim <= 20 ? 9 : dim < 32 ? 8 : dim < 128 ? 6 : 5;
}

// The same in the arithmetic of T; coefficients beyond the degree are 0.
template <class T>
struct Polynomial {
  int degree;
  T coefficients[MOST_DEGREE + 1];

  // Q at tau = 1, for a point with itself: 1 but for the rounding of the coefficients, which all other pairs see too.
  double own() const {
    double sum = 0;
    for (T coefficient : coefficients) sum += static_cast<double>(coefficient);
    return sum;
  }

  static Polynomial of(const Form& form) {
    Polynomial polynomial{form.degree, {}};
    for (int k = 0; k <= form.degree; ++k) polynomial.coefficients[k] = T(form.coefficients[k]);
    return polynomial;
  }
};

}  // namespace segma
