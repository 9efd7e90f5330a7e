// The operators of the native backend on the CPU: check the tensors, choose the arithmetic, evaluate.
#include "cpu/code_path.h"

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

#include "common/operators.h"
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
constexpr double ROWS_A_THREAD = 512;                // from which on threads have enough to do in one sample
constexpr double CYCLES_A_SAMPLE = 1e4;              // of the smallest

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

// The i-th of several samples of one size, whose rows lie one behind the other, as its inputs and results.
void fill_sample(Input input, Output output, int64_t i, double* energy) {
  const int64_t rows = input.points.rows, first_rows = input.points.first_rows, dim = input.points.dim;
  input.points = sample_of(input.points, i);
  input.h += i * rows;
  input.w += i * rows;
  if (output.dw != nullptr) {
    const int64_t row_bytes = dim * (output.dx.is_double ? 8 : 4);
    output.dh += i * rows;
    output.dw += i * rows;
    output.dx.first = static_cast<char*>(output.dx.first) + i * first_rows * row_bytes;
    output.dx.second = static_cast<char*>(output.dx.second) + i * (rows - first_rows) * row_bytes;
  }
  fill(input, output);
  energy[i] = output.energy;
}

// All threads share a large sample; small ones are shared out among the threads.
void fill_samples(const Input& input, const Output& output, int64_t samples, double* energy) {
  const double rows = double(input.points.rows);
  const double at_once = std::min<double>(double(samples), torch::stable::get_num_threads());
  if (samples == 1 || rows >= ROWS_A_THREAD * at_once) {
    for (int64_t i = 0; i < samples; ++i) fill_sample(input, output, i, energy);
    return;
  }
  code_path_in_use();  // throws here and not in a thread
  std::atomic<int64_t> next{0};
  const double cycles = CYCLES_A_SAMPLE + cycles_of(0.5 * rows * rows, input.points.dim, 0, sizeof(float));
  in_parallel(double(samples) * cycles, [&] {
    for (int64_t i; (i = next.fetch_add(1)) < samples;) fill_sample(input, output, i, energy);
  });
}

Samples check(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start, int64_t stop) {
  const Samples samples = check_samples(z, means, h, w, start, stop);
  STD_TORCH_CHECK(z.is_cpu(), "z, means, h and w must be CPU tensors");
  return samples;
}

Input input_of(const Samples& samples, const Tensor& h, const Tensor& w, int64_t start, int64_t stop,
               const std::string& phi) {
  return {samples.points,
          static_cast<const double*>(h.const_data_ptr()),
          static_cast<const double*>(w.const_data_ptr()),
          start,
          stop,
          is_exact(phi)};
}

Tensor native_energy(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                     int64_t stop, std::string, std::string phi) {
  const Samples samples = check(z, means, h, w, start, stop);
  Tensor energy = make_energy(samples, z);
  fill_samples(input_of(samples, h, w, start, stop, phi), {0, nullptr, nullptr, {}}, samples.count,
               static_cast<double*>(energy.mutable_data_ptr()));
  return energy;
}

EnergyAndGradient native_gradient(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                                  int64_t stop, std::string, std::string phi) {
  const Samples samples = check(z, means, h, w, start, stop);
  EnergyAndGradient results = make_results(samples, start, stop, z);
  const auto& [energy, dz, dmeans, dh, dw] = results;
  const bool is_double = samples.points.kind == Kind::float64;
  const int64_t codes = std::max(start, std::min(stop, samples.points.first_rows)) - start;
  const Output output{0,
                      static_cast<double*>(dh.mutable_data_ptr()),
                      static_cast<double*>(dw.mutable_data_ptr()),
                      {dz.mutable_data_ptr(), dmeans.mutable_data_ptr(), codes, is_double}};
  fill_samples(input_of(samples, h, w, start, stop, phi), output, samples.count,
               static_cast<double*>(energy.mutable_data_ptr()));
  return results;
}

}  // namespace
}  // namespace segma

SEGMA_IMPLEMENT(CPU, library) {
  library.impl("native_energy", TORCH_BOX(&segma::native_energy));
  library.impl("native_gradient", TORCH_BOX(&segma::native_gradient));
}
