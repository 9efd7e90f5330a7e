// The profile of a pair of points: the one place of the formula, for scalars and vectors, host and device.
//
// With t = |a - b|^2 and h = 2 (v + 2 gamma), the kernel is k = pi^(-1/2) h^(-1/2) phi_D(t/h). Both forms of phi_D make
// it a reciprocal root times a polynomial Q; kernels hold arguments divided by its slope c, g = h/c + t, so that
// squared distances need no further product:
//
//     r = g^(-1/2),   tau = (h/c) r^2,   P = Q + 2 tau Q',   Q' = dQ/dtau,   s = (pi c)^(-1/2)
//     k = s r Q,      dk/dt = -(s/2) r^3 P,                  dk/dh = -(s/2c) r^3 (P - 2 Q')
//
// The paper's approximation is Q = 1 and c = 4 / (2D - 3); the exact Q and c are in exact_phi.h. In one dimension both
// forms are k = (pi h)^(-1/2) exp(-t/h).
#pragma once

#include "common/form.h"

namespace segma {

// V is a scalar or a vector of them. Without constant factors, `value` is k, `pull` -2 dk/dt and pull - 2 bend -2
// dk/dh.
template <class V>
struct Radial {
  V value, pull, bend;
};

// Q = 1, where there is no bend.
template <class V>
SEGMA_HOST_DEVICE inline V pull_of(V root) {
  return root * root * root;
}

// From x = 2 tau - 1, Q and dQ/dx. `cube` is r^3, or r^3 times a weight, which pull and bend then have too.
template <class V>
SEGMA_HOST_DEVICE inline Radial<V> radial(V root, V cube, V x, V q, V steep) {
  const V slope = steep + steep;
  return {root * q, cube * (q + (x * slope + slope)), cube * slope};
}

// Q and dQ/dx of a degree > 0.
template <class T>
SEGMA_HOST_DEVICE inline void powers(const T* coefficients, int degree, T x, T& q, T& steep) {
  steep = coefficients[degree];
  q = steep * x + coefficients[degree - 1];
  for (int k = degree - 2; k >= 0; --k) {
    steep = steep * x + q;
    q = q * x + coefficients[k];
  }
}

// The constant factors: k = value * Radial::value, dk/dt = -value / 2 * pull, dk/dh = -widen * (pull - 2 bend).
struct Factors {
  double value, widen;
};

template <class Sqrt>
SEGMA_HOST_DEVICE inline Factors factors(double slope, Sqrt square_root) {
  const double value = INV_SQRT_PI / square_root(slope);
  return {value, 0.5 * value / slope};
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
SEGMA_HOST_DEVICE inline Profile<T> profile(T t, T h, long long dim, double slope, const Polynomial<T>& form,
                                            Sqrt square_root, Exp exponential) {
  if (dim == 1) {
    return gaussian<T>(t, T(1) / square_root(h), exponential(-t / h));
  }
  const T width = h / T(slope), root = T(1) / square_root(width + t), x = T(2) * width * (root * root) - T(1);
  T q = T(1), steep = T(0);
  if (form.degree > 0) powers(form.coefficients, form.degree, x, q, steep);
  const Radial<T> pair = radial<T>(root, pull_of(root), x, q, steep);
  const Factors scale = factors(slope, square_root);
  return {T(scale.value) * pair.value, T(-0.5 * scale.value) * pair.pull,
          T(-scale.widen) * (pair.pull - T(2) * pair.bend)};
}

}  // namespace segma
