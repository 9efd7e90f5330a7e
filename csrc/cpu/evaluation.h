// Points prepared for one arithmetic, and the evaluation of their tasks.
//
// The M points are cut into blocks, and each pair of blocks is a task. Whatever thread is free takes the next; a
// block's results are added in the order of its tasks, each waiting for its turn just before it writes. So no memory is
// needed beyond the results, the packed points and a task's workspace, and the bits do not depend on the number of
// threads.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "common/exact_phi.h"
#include "common/profile.h"
#include "cpu/kernels.h"
#include "cpu/strips.h"
#include "cpu/threads.h"
#include "cpu/tournament.h"

namespace segma {

constexpr int64_t WIDE = 513;                     // coordinates from which on strips are faster than pairs of blocks
constexpr size_t MOST_PACKED = size_t{48} << 20;  // bytes; with more, each task packs its own blocks

// About as many cycles as pairs take whose scalars have so many bytes.
inline double cycles_of(double pairs, int64_t dim, int64_t degree, size_t bytes) {
  return pairs * (3.0 * double(dim) + 4.0 * double(degree) + 30.0) * double(bytes) / 64;
}

inline double square_root(double x) {
  return std::sqrt(x);
}

struct Input {
  Points points;
  const double *h, *w;  // (M,)
  int64_t start, stop;
  bool exact;  // the form of phi_D
};

// The pointers are null for the value alone.
struct Output {
  double energy, *dh, *dw;
  Rows dx;
};

// Points prepared for one arithmetic, and the evaluation of their tasks.
template <class T>
class Evaluation {
 public:
  Evaluation(const Kernels<T>& kernels, const Input& input)
      : kernels_(kernels),
        input_(input),
        form_(form_of(input.points.dim, input.exact, sizeof(T) == sizeof(double))),
        polynomial_(Polynomial<T>::of(form_)),
        norms_(input.points.rows),
        width_(input.points.rows),
        lift_(input.points.rows),
        weight_(input.points.rows) {
    const int64_t rows = input.points.rows, dim = input.points.dim;
    block_ = std::max<int64_t>(kernels.least_block, rows < 512 ? 48 : rows < 4096 ? 96 : 192);
    packed_bytes_ = kernels.packed_bytes(block_, dim);
    const bool whole = input.stop - input.start == rows;
    packs_all_ = whole && packed_bytes_ * ((rows + block_ - 1) / block_) <= MOST_PACKED;
    if (whole && !packs_all_) block_ = 384;  // the larger, the less is packed again
    bytes_ = dim >= WIDE ? kernels.strips.workspace(dim) : kernels.workspace(block_, dim, packs_all_);
  }

  // Takes the points relative to `centre` and times `scale`. Multiplying x by s and h by s^2 divides r by s.
  void centre_points(const std::vector<double>& centre, double scale = 1) {
    const int64_t rows = input_.points.rows;
    centre_.assign(centre.begin(), centre.end());
    cloud_ = {input_.points, centre_.data(), scale,   Scores::products, T(0),
              lift_.data(),  weight_.data(), nullptr, nullptr};
    for_blocks(rows, double(rows) * double(input_.points.dim), [&](int64_t begin, int64_t end, void* workspace) {
      kernels_.norms(cloud_, begin, end, workspace, norms_.data());
    });
    const double factor = scale * scale / form_.slope;
    most_ = greatest_ = 0;
    least_ = std::numeric_limits<double>::infinity();
    for (int64_t a = 0; a < rows; ++a) {
      width_[a] = std::max(input_.h[a] * factor, std::numeric_limits<double>::min());
      least_ = std::min(least_, width_[a]);
      greatest_ = std::max(greatest_, width_[a]);
      if (!(norms_[a] <= most_)) most_ = std::isfinite(norms_[a]) ? norms_[a] : std::numeric_limits<double>::infinity();
    }
  }

  bool finite() const { return std::isfinite(most_); }

  // Whether T holds the widths and the cubes of their roots, and its points' errors are small against the least width.
  bool resolved(double limit) const {
    const bool held = sizeof(T) == sizeof(double) || (least_ > 1e-20 && greatest_ < 1e30);
    return held && most_ <= segma::resolved(form_, input_.points.dim, limit) * least_;
  }

  void run(Scores scores, Output& output) {
    lift(scores);
    const int64_t rows = input_.points.rows, count = input_.stop - input_.start;
    const bool whole = count == rows;
    const int64_t blocks = (count + block_ - 1) / block_;
    const Factors scale = factors(form_.slope, square_root);
    std::vector<double> energy(blocks);
    const Results results{input_.start, energy.data(), output.dw,
                          output.dh,    output.dx,     2 * scale.value * cloud_.scale * cloud_.scale};
    const double pairs = double(count) * double(rows) * (whole ? 0.5 : 1.0);
    const double cycles = cycles_of(pairs, input_.points.dim, form_.degree, sizeof(T));
    if (input_.points.dim >= WIDE) {
      energy = {Strips<T>(kernels_.strips, cloud_, results, input_.start, input_.stop).run()};
    } else if (whole) {
      pack();
      Tournament tournament(blocks);
      in_parallel(cycles, [&] { play(tournament, results, Memory::of_this_thread<Use::task>(bytes_).start()); });
    } else {
      std::atomic<int64_t> next{0};
      in_parallel(cycles, [&] {
        const Memory workspace = Memory::of_this_thread<Use::task>(bytes_);
        for (int64_t index; (index = next.fetch_add(1)) < blocks;) against_all(index, results, workspace.start());
      });
    }
    add_own_terms(energy, scale, output);
  }

 private:
  void lift(Scores scores) {
    cloud_.scores = scores;
    cloud_.lowest = T(2 * least_);
    for (int64_t a = 0; a < input_.points.rows; ++a) {
      const double norm = scores == Scores::products ? norms_[a] : 0.0;
      lift_[a] = T(width_[a] + norm);
      weight_[a] = T(input_.w[a]);
      if (sizeof(T) == sizeof(double)) continue;
      const double rounded = double(lift_[a]) - norm;  // the width that a tile sees; the point's own term takes it too
      if (std::fabs(rounded - width_[a]) <= 1e-4 * width_[a]) width_[a] = rounded;
    }
    if (form_.degree == 0) return;
    twice_width_.assign(width_.begin(), width_.end());
    for (T& width : twice_width_) width *= 2;
    cloud_.polynomial = &polynomial_;
    cloud_.width = twice_width_.data();
  }

  // All blocks at once, where they take little memory; otherwise each task packs its own.
  void pack() {
    const int64_t rows = input_.points.rows, dim = input_.points.dim;
    if (!packs_all_) return;
    packed_.emplace(Memory::of_this_thread<Use::packed>(packed_bytes_ * ((rows + block_ - 1) / block_)));
    for_blocks(rows, 4.0 * double(rows) * double(dim), [&](int64_t begin, int64_t end, void* workspace) {
      kernels_.pack(cloud_, begin, end, workspace, packed_block(begin));
    });
  }

  void* packed_block(int64_t begin) const {
    return packed_ ? packed_->start() + packed_bytes_ * (begin / block_) : nullptr;
  }

  template <class F>
  void for_blocks(int64_t rows, double cycles, const F& function) const {
    std::atomic<int64_t> next{0};
    in_parallel(cycles, [&] {
      const Memory workspace = Memory::of_this_thread<Use::task>(bytes_);
      for (int64_t begin; (begin = next.fetch_add(block_)) < rows;) {
        function(begin, std::min(begin + block_, rows), workspace.start());
      }
    });
  }

  void play(Tournament& tournament, const Results& results, void* workspace) const {
    struct Meeting {
      Tournament& tournament;
      Match match;
    } meeting{tournament, {}};
    Match& match = meeting.match;
    const auto wait = [](void* state) {
      const auto* meeting = static_cast<Meeting*>(state);
      meeting->tournament.wait_for_turn(meeting->match);
    };
    while (tournament.take(match)) {
      const int64_t row = match.first * block_, column = match.second * block_, rows = input_.points.rows;
      const Task task{row,
                      std::min(row + block_, rows),
                      column,
                      std::min(column + block_, rows),
                      row != column,
                      packed_block(row),
                      packed_block(column)};
      kernels_.run(cloud_, task, results, results.energy + match.first, {&meeting, wait, match.round == 0}, workspace);
      tournament.finish(match);
    }
  }

  void against_all(int64_t index, const Results& results, void* workspace) const {
    const int64_t row = input_.start + index * block_, row_end = std::min(row + block_, input_.stop);
    for (int64_t column = 0; column < input_.points.rows; column += block_) {
      const Task task{row, row_end, column, std::min(column + block_, input_.points.rows), false, nullptr, nullptr};
      kernels_.run(cloud_, task, results, results.energy + index, {nullptr, [](void*) {}, column == 0}, workspace);
    }
  }

  // What each point adds with itself, and the constant factors.
  void add_own_terms(const std::vector<double>& energy, const Factors& scale, Output& output) const {
    const double value = scale.value * cloud_.scale, widen = -2 * scale.widen * std::pow(cloud_.scale, 3);
    const double at_zero = polynomial_.own();
    double sum = 0, own = 0;
    for (double part : energy) sum += part;
    for (int64_t a = input_.start; a < input_.stop; ++a) {
      const double root = 1 / std::sqrt(2 * width_[a]), w = input_.w[a];
      own += w * w * root * at_zero;
      if (output.dw == nullptr) continue;
      double &dw = output.dw[a - input_.start], &dh = output.dh[a - input_.start];
      dw = 2 * value * (dw + w * root * at_zero);
      dh = widen * (dh + w * w * (root * root * root) * at_zero);
    }
    output.energy = value * (sum + own);
  }

  const Kernels<T>& kernels_;
  const Input& input_;
  Form form_;
  Polynomial<T> polynomial_;
  int64_t block_;
  size_t bytes_, packed_bytes_;
  bool packs_all_;
  std::optional<Memory> packed_;
  Cloud<T> cloud_;
  std::vector<double> norms_, width_;
  std::vector<T> centre_, lift_, weight_, twice_width_;
  double most_ = 0, least_ = 0, greatest_ = 0;  // of the squared norms; of the widths
};

}  // namespace segma
