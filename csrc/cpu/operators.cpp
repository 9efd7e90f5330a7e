// The operators of the native backend on the CPU: check the tensors, choose the arithmetic, evaluate.
#include "cpu/code_path.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "common/tensors.h"
#include "cpu/centre.h"
#include "cpu/evaluation.h"

namespace segma {
namespace {

// Greatest c|x|^2/h, with the paper's c, for products of float32 points and for their differences.
constexpr double RESOLVED_BY_PRODUCTS = 300;
constexpr double RESOLVED_BY_DIFFERENCES = 1e5;
constexpr double RESOLVED_BY_DOUBLE = 1e8;           // for products in double of points that were given as float32,
constexpr double RESOLVED_PRECISELY = 1e4;           // and of those given as double
constexpr int64_t SMALL_DIM = 8, MODERATE_DIM = 32;  // differences: up to the one always, to the other where needed

// The greatest coordinate in size, or infinity if one is not finite.
double largest(const Points& points) {
  double largest = 0;
  for (int64_t a = 0; a < points.rows; ++a) {
    for (int64_t d = 0; d < points.dim; ++d) {
      const double size = std::fabs(coordinate(points, a, d));
      if (!(size <= largest)) largest = std::isfinite(size) ? size : std::numeric_limits<double>::infinity();
    }
  }
  return largest;
}

void write_number(const Rows& rows, int64_t row, int64_t dim, int64_t d, double value) {
  if (rows.is_double) {
    rows.at<double>(row, dim)[d] = value;
  } else {
    rows.at<float>(row, dim)[d] = static_cast<float>(value);
  }
}

void fill_with_nan(const Input& input, Output& output) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const int64_t count = input.stop - input.start;
  output.energy = nan;
  if (output.dw == nullptr) return;
  std::fill_n(output.dw, count, nan);
  std::fill_n(output.dh, count, nan);
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t d = 0; d < input.points.dim; ++d) write_number(output.dx, row, input.points.dim, d, nan);
  }
}

void evaluate_in_double(const CodePath& code_path, const Input& input, const std::vector<double>& centre,
                        Output& output) {
  Evaluation<double> evaluation(code_path.float64, input);
  evaluation.centre_points(centre);
  if (!evaluation.finite()) {
    const double size = largest(input.points);
    if (!std::isfinite(size)) return fill_with_nan(input, output);
    evaluation.centre_points(centre, std::exp2(std::floor(500 - std::log2(size))));
  }
  const double limit = input.points.kind == Kind::float64 ? RESOLVED_PRECISELY : RESOLVED_BY_DOUBLE;
  const bool products = input.points.dim > SMALL_DIM && evaluation.resolved(limit);
  evaluation.run(products ? Scores::products : Scores::differences, output);
}

// Forces are sums of w r^3 x_b less x_a times the sum of w r^3. Of points that coincide r^3 is (2h/c)^(-3/2), and their
// forces are nothing but rounding: with L = c|x|^2/h, (L/2)^(3/2)/m times what is usual. Near the optimum a hundredth
// of the usual is left of the gradient, of which rounding may be a thousandth.
double resolved_by_differences(int64_t rows) {
  return std::min(RESOLVED_BY_DIFFERENCES, 2 * std::pow(170.0 * static_cast<double>(rows), 2.0 / 3));
}

// Products where they resolve the least width, differences where these do, and double where neither does.
void evaluate(const CodePath& code_path, const Input& input, Output& output) {
  const bool small = input.points.dim <= SMALL_DIM;
  std::vector<double> centre = quick_centre(input.points);
  if (input.points.kind != Kind::float64) {
    Evaluation<float> evaluation(code_path.float32, input);
    evaluation.centre_points(centre);
    const double by_differences = resolved_by_differences(input.points.rows);
    const double limit = small ? by_differences : RESOLVED_BY_PRODUCTS;
    if (!evaluation.resolved(limit)) {
      centre = exact_centre(input.points);
      evaluation.centre_points(centre);
    }
    if (evaluation.resolved(limit)) return evaluation.run(small ? Scores::differences : Scores::products, output);
    if (input.points.dim <= MODERATE_DIM && evaluation.resolved(by_differences)) {
      return evaluation.run(Scores::differences, output);
    }
  }
  evaluate_in_double(code_path, input, centre, output);
}

// One dimension: the exact profile, in double.
void evaluate_line(const CodePath& code_path, const Input& input, Output& output) {
  const int64_t rows = input.points.rows, count = input.stop - input.start;
  std::vector<double> x(rows), u(count), dx(count), dh(count);
  for (int64_t a = 0; a < rows; ++a) {
    x[a] = coordinate(input.points, a, 0);
    if (!std::isfinite(x[a])) return fill_with_nan(input, output);
  }
  const Line line{x.data(), input.h, input.w, rows};
  std::atomic<int64_t> next{0};
  in_parallel(double(count) * double(rows) * 16, [&] {
    constexpr int64_t SHARE = 64;
    for (int64_t begin; (begin = next.fetch_add(SHARE)) < count;) {
      const int64_t end = std::min(begin + SHARE, count);
      code_path.line(line, input.start + begin, input.start + end, &u[begin], &dx[begin], &dh[begin]);
    }
  });
  output.energy = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double w = input.w[input.start + i];
    output.energy += w * u[i];
    if (output.dw == nullptr) continue;
    output.dw[i] = 2 * u[i];
    output.dh[i] = 2 * w * dh[i];
    write_number(output.dx, i, 1, 0, 2 * w * dx[i]);
  }
}

Input check(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start, int64_t stop,
            const std::string& phi) {
  const Points points = check_cloud(z, means, h, w, start, stop);
  STD_TORCH_CHECK(z.is_cpu(), "z, means, h and w must be CPU tensors");
  return {points,
          static_cast<const double*>(h.const_data_ptr()),
          static_cast<const double*>(w.const_data_ptr()),
          start,
          stop,
          is_exact(phi)};
}

void fill(const Input& input, Output& output) {
  const CodePath& code_path = code_path_in_use();
  double sum = 0;
  for (int64_t a = 0; a < input.points.rows; ++a) sum += 0 * (input.h[a] + input.w[a]);
  if (input.points.rows == 0) {
    output.energy = 0;
  } else if (std::isnan(sum)) {
    fill_with_nan(input, output);
  } else if (input.points.dim == 1) {
    evaluate_line(code_path, input, output);
  } else {
    evaluate(code_path, input, output);
  }
  if (input.start == 0 && input.stop == input.points.rows && output.energy < 0) output.energy = 0;  // rounding
}

Tensor native_energy(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                     int64_t stop, std::string, std::string phi) {
  Tensor energy = make_tensor({}, ScalarType::Double, z);
  Output output{0, nullptr, nullptr, {}};
  fill(check(z, means, h, w, start, stop, phi), output);
  *static_cast<double*>(energy.mutable_data_ptr()) = output.energy;
  return energy;
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> native_gradient(const Tensor& z, const Tensor& means,
                                                                   const Tensor& h, const Tensor& w, int64_t start,
                                                                   int64_t stop, std::string, std::string phi) {
  const Input input = check(z, means, h, w, start, stop, phi);
  const int64_t middle = std::max(start, std::min(stop, z.size(0)));
  const ScalarType type = input.points.kind == Kind::float64 ? ScalarType::Double : ScalarType::Float;
  Tensor energy = make_tensor({}, ScalarType::Double, z);
  Tensor dz = make_tensor({middle - start, z.size(1)}, type, z);
  Tensor dmeans = make_tensor({stop - middle, z.size(1)}, type, z);
  Tensor dh = make_tensor({stop - start}, ScalarType::Double, z),
         dw = make_tensor({stop - start}, ScalarType::Double, z);
  Output output{0,
                static_cast<double*>(dh.mutable_data_ptr()),
                static_cast<double*>(dw.mutable_data_ptr()),
                {dz.mutable_data_ptr(), dmeans.mutable_data_ptr(), middle - start, type == ScalarType::Double}};
  fill(input, output);
  *static_cast<double*>(energy.mutable_data_ptr()) = output.energy;
  return {energy, dz, dmeans, dh, dw};
}

}  // namespace
}  // namespace segma

STABLE_TORCH_LIBRARY_IMPL(segma_fast, CPU, library) {
  library.impl("native_energy", TORCH_BOX(&segma::native_energy));
  library.impl("native_gradient", TORCH_BOX(&segma::native_gradient));
}
