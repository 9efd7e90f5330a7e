// The profile of a pair of points: the one place of the formula, for scalars and vectors, host and device.
//
// With t = |a - b|^2, h = 2 (v + 2 gamma) and c = 4 / (2D - 3), the kernel is k = pi^(-1/2) (h + c t)^(-1/2).
// Kernels hold arguments divided by c, g = h/c + t, so that squared distances need no further product:
//
//     r = g^(-1/2),   k = s r,   dk/dt = -(s/2) r^3,   dk/dh = -(s/2c) r^3,   s = (pi c)^(-1/2)
//
// In one dimension c does not exist and the exact form k = (pi h)^(-1/2) exp(-t/h) is used.
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

SEGMA_HOST_DEVICE constexpr double slope(long long dim) {
  return 4.0 / (2.0 * static_cast<double>(dim) - 3.0);
}

// 1/c, exact; 1 in one dimension, whose form does not need it.
SEGMA_HOST_DEVICE constexpr double inverse_slope(long long dim) {
  return dim > 1 ? (2.0 * static_cast<double>(dim) - 3.0) / 4.0 : 1.0;
}

// V is a scalar or a vector of them; `pull` is -2 dk/dt and `widen` -dk/dh, all without their constant factors.
template <class V>
struct Radial {
  V value, pull;
};

template <class V>
SEGMA_HOST_DEVICE inline Radial<V> radial(V root) {
  return {root, root * root * root};
}

// The constant factors: k = value * Radial::value, dk/dt = -value / 2 * Radial::pull, dk/dh = -widen * Radial::pull.
struct Factors {
  double value, widen;
};

template <class Sqrt>
SEGMA_HOST_DEVICE inline Factors factors(long long dim, Sqrt square_root) {
  const double value = INV_SQRT_PI / square_root(slope(dim));
  return {value, 0.5 * value / slope(dim)};
}

template <class V>
struct Profile {
  V k, k_t, k_h;
};

// One dimension: `root` is h^(-1/2) and `bell` is exp(-t/h).
template <class V>
SEGMA_HOST_DEVICE inline Profile<V> gaussian(V t, V root, V bell) {
  const V inverse = root * root, k = INV_SQRT_PI * root * bell, pull = k * inverse;
  return {k, -pull, V(pull * t * inverse - 0.5 * pull)};  // in this order: t * inverse may overflow where k is 0
}

// The kernel and both derivatives of one pair, for D >= 1.
template <class T, class Sqrt, class Exp>
SEGMA_HOST_DEVICE inline Profile<T> profile(T t, T h, long long dim, Sqrt square_root, Exp exponential) {
  if (dim == 1) {
    return gaussian<T>(t, T(1) / square_root(h), exponential(-t / h));
  }
  const Radial<T> pair = radial<T>(T(1) / square_root(h / T(slope(dim)) + t));
  const Factors scale = factors(dim, square_root);
  return {T(scale.value) * pair.value, T(-0.5 * scale.value) * pair.pull, T(-scale.widen) * pair.pull};
}

}  // namespace segma
