// The polynomial of the exact phi_D = 1F1(1/2; D/2; -s); segma_fast/distance/exact_phi.py explains each step.
#pragma once

#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "common/form.h"

namespace segma {
namespace exact_phi {

constexpr int NODES = 64;
constexpr double NOISE = 2e-15, PI = 3.14159265358979323846;

// The integral over x >= 0 of u^power exp(-s u^2) sech^(D-1) x, u = tanh x, by the trapezoidal rule.
inline double over_the_sphere(double s, double dim, int power) {
  const double step = std::fmin(0.1, 0.3 / std::sqrt(s + 0.5 * (dim - 1)));
  long double total = power == 0 ? 0.5 : 0.0;
  for (int i = 1;; ++i) {
    const double x = i * step, u = std::tanh(x);
    const double log_cosh =
        x < 1 ? -0.5 * std::log1p(-u * u) : x + std::log1p(std::exp(-2 * x)) - 0.693147180559945309417;
    const double exponent = s * u * u + (dim - 1) * log_cosh;
    if (exponent > 50) return static_cast<double>(total) * step;
    total += (power == 0 ? 1.0 : u * u) * std::exp(-exponent);
  }
}

// Chebyshev coefficients of P = Q + 2 tau dQ/dtau in x = 2 tau - 1.
inline std::vector<double> series_of_p(long long dim) {
  const double slope = exact_slope(dim), whole = over_the_sphere(0, static_cast<double>(dim), 0);
  std::array<double, NODES> p;
  for (int i = 0; i < NODES; ++i) {
    const double half = PI * (2 * i + 1) / (4 * NODES), root = std::cos(half);
    const double s = std::pow(std::tan(half), 2) / slope;
    p[i] = 2 / slope * over_the_sphere(s, static_cast<double>(dim), 2) / whole / (root * root * root);
  }
  std::vector<double> series(NODES);
  for (int k = 0; k < NODES; ++k) {
    long double sum = 0;
    for (int i = 0; i < NODES; ++i) sum += p[i] * std::cos(PI * (k * (2 * i + 1) % (4 * NODES)) / (2 * NODES));
    series[k] = static_cast<double>(sum * (k == 0 ? 1 : 2) / NODES);
  }
  while (std::fabs(series.back()) < NOISE) series.pop_back();
  return series;
}

// Chebyshev coefficients of Q from those of P.
inline std::vector<double> solve(const std::vector<double>& p) {
  std::vector<double> q(p.size());
  double current = 0, next = 0;  // coefficients k and k + 1 of dQ/dx; the first counts twice
  for (size_t k = p.size() - 1; k > 0; --k) {
    q[k] = (p[k] - 2 * current - 2 * next) / static_cast<double>(1 + 2 * k);
    const double before = next + 2 * static_cast<double>(k) * q[k];
    next = current;
    current = before;
  }
  q[0] = p[0] - current - next;
  return q;
}

// T_k at cos(angle), and its part of P.
inline std::array<double, 2> term(int k, double angle) {
  const double x = std::cos(angle), sine = std::sin(angle), value = std::cos(k * angle);
  const double slope = sine > 1e-9 ? k * std::sin(k * angle) / sine : x > 0 ? double(k) * k : 0.0;
  return {value, value + 2 * (1 + x) * slope};
}

// The least degree > 0 at which what is cut off is small against Q and P everywhere.
inline int degree(const std::vector<double>& series, double value_tolerance, double slope_tolerance) {
  const int count = static_cast<int>(series.size());
  std::vector<std::array<double, 2>> whole(NODES + 1), cut(NODES + 1);
  for (int i = 0; i <= NODES; ++i) {
    for (int k = 0; k < count; ++k) {
      const auto part = term(k, PI * i / NODES);
      for (int n = 0; n < 2; ++n) whole[i][n] += series[k] * part[n];
    }
  }
  int least = count - 1;
  for (int k = count - 1; k > 1; --k) {
    bool small = true;
    for (int i = 0; i <= NODES; ++i) {
      const auto part = term(k, PI * i / NODES);
      for (int n = 0; n < 2; ++n) cut[i][n] += series[k] * part[n];
      small &= std::fabs(cut[i][0]) <= value_tolerance * whole[i][0];
      small &= std::fabs(cut[i][1]) <= slope_tolerance * whole[i][1];
    }
    if (small) least = k - 1;
  }
  return least;
}

// Chebyshev coefficients, from the first to that of `degree`, as coefficients of powers.
inline Form in_powers(double slope, const std::vector<double>& series, int degree) {
  Form form{slope, degree, {}};
  std::array<double, NODES> before{}, current{};
  current[0] = 1;
  for (int k = 0; k <= degree; ++k) {
    std::array<double, NODES> next{};
    for (int i = 0; i <= degree; ++i) {
      form.coefficients[i] += series[k] * current[i];
      next[i] = (i == 0 ? 0.0 : (k == 0 ? 1 : 2) * current[i - 1]) - before[i];
    }
    before = current;
    current = next;
  }
  return form;
}

}  // namespace exact_phi

// The exact form of phi_D, D >= 2, for arithmetic in float32 or float64; kept from call to call.
inline const Form& exact_form(long long dim, bool float64) {
  static std::mutex lock;
  static std::map<std::pair<long long, bool>, Form> kept;
  const std::lock_guard<std::mutex> guard(lock);
  const auto found = kept.find({dim, float64});
  if (found != kept.end()) return found->second;
  const std::vector<double> series = exact_phi::solve(exact_phi::series_of_p(dim));
  const int degree = float64 ? exact_phi::degree(series, 8e-13, 8e-13) : exact_phi::degree(series, 1.5e-7, 1.6e-6);
  return kept[{dim, float64}] = exact_phi::in_powers(exact_slope(dim), series, degree);
}

// The form of phi_D, "approx" or "exact"; both are exp(-s) in one dimension, which needs none.
inline Form form_of(long long dim, bool exact, bool float64) {
  return exact && dim > 1 ? exact_form(dim, float64) : Form{slope(dim), 0, {1.0}};
}

}  // namespace segma
