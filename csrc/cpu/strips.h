// The evaluation of points with many coordinates: strip by strip, all threads at one strip (isa/strips.h).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/threads.h"

namespace segma {

template <class T>
class Strips {
 public:
  // Rows [start, stop) against all of the cloud; `whole` if these are all, so that each pair is evaluated once.
  Strips(const StripKernels<T>& kernels, const Cloud<T>& cloud, const Results& results, int64_t start, int64_t stop)
      : kernels_(kernels),
        cloud_(cloud),
        results_(results),
        start_(start),
        stop_(stop),
        whole_(stop - start == cloud.points.rows),
        dim_(cloud.points.dim),
        depth_(std::clamp<int64_t>(dim_ / 16 / 32 * 32, 32, STRIP_DEPTH)),
        tiles_(std::min(MOST_TILES, count(cloud.points.rows, STRIP_COLUMNS))),
        sums_(tiles_ * 3 * STRIP_ROWS),
        row_q_(STRIP_ROWS),
        column_q_(tiles_ * STRIP_COLUMNS),
        energy_(tiles_),
        groups_(sizeof(T) * STRIP_ROWS * dim_),
        c_(sizeof(T) * STRIP_ROWS * STRIP_COLUMNS * tiles_) {}

  // The sum of w_a w_b times the value of a pair, without a = b.
  double run() {
    Strip strip = strip_at(start_);
    by_coordinates(nullptr, &strip);
    double energy = 0;
    for (;;) {
      const Strip next = after(strip);
      energy += score(strip);
      if (results_.du != nullptr) add_row_sums(strip);
      const bool packs = next.row != strip.row && next.row < stop_;
      if (results_.du != nullptr || packs) {
        by_coordinates(results_.du == nullptr ? nullptr : &strip, packs ? &next : nullptr);
      }
      if (next.row >= stop_) return energy;
      strip = next;
    }
  }

 private:
  static constexpr int64_t MOST_TILES = (int64_t{12} << 20) / (STRIP_ROWS * STRIP_COLUMNS * sizeof(T));  // 12 MiB of C

  static int64_t count(int64_t size, int64_t unit) { return (size + unit - 1) / unit; }

  Strip strip_at(int64_t row) {
    Strip strip{};
    strip.row = row;
    strip.row_end = std::min(row + STRIP_ROWS, stop_);
    strip.mirrored = whole_;
    strip.is_new = !whole_ || row == 0;
    strip.groups = groups_.start();
    strip.c = c_.start();
    strip.sums = sums_.data();
    strip.row_q = row_q_.data();
    strip.column_q = column_q_.data();
    return with_columns(strip, whole_ ? row : 0);
  }

  Strip with_columns(Strip strip, int64_t column) const {
    strip.column = column;
    strip.column_end = std::min(column + tiles_ * STRIP_COLUMNS, cloud_.points.rows);
    return strip;
  }

  // The same rows against the columns that follow, or the next rows; these begin at `stop` after the last.
  Strip after(const Strip& strip) {
    if (strip.column_end == cloud_.points.rows) return strip_at(strip.row_end);
    Strip next = with_columns(strip, strip.column_end);
    next.is_new = false;
    return next;
  }

  double pairs(const Strip& strip) const {
    return double(strip.row_end - strip.row) * double(strip.column_end - strip.column) * sizeof(T) / 64;
  }

  double score(const Strip& strip) {
    const int64_t tiles = count(strip.column_end - strip.column, STRIP_COLUMNS);
    std::atomic<int64_t> next{0};
    in_parallel(pairs(strip) * double(dim_), [&] {
      const Memory workspace = Memory::of_this_thread<Use::task>(kernels_.workspace(dim_));
      for (int64_t tile; (tile = next.fetch_add(1)) < tiles;) {
        energy_[tile] = kernels_.score(cloud_, strip, tile, results_, workspace.start());
      }
    });
    double energy = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) energy += energy_[tile];
    return energy;
  }

  void add_row_sums(const Strip& strip) {
    const int64_t tiles = count(strip.column_end - strip.column, STRIP_COLUMNS);
    const bool exact = cloud_.polynomial != nullptr;
    for (int64_t a = 0; a < strip.row_end - strip.row; ++a) {
      double u = 0, q = 0, e = 0;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const double* const sums = strip.sums + tile * 3 * STRIP_ROWS + a;
        u += sums[0];
        q += sums[STRIP_ROWS];
        e += sums[2 * STRIP_ROWS];
      }
      double &du = results_.du[strip.row + a - results_.first_row],
             &de = results_.de[strip.row + a - results_.first_row];
      du = u + (strip.is_new ? 0 : du);
      de = (exact ? e : q) + (strip.is_new ? 0 : de);
      strip.row_q[a] = q;
    }
  }

  // A few coordinates at a time: the gradients of a strip, and then, in the same memory, the packing of the next.
  void by_coordinates(const Strip* strip, const Strip* next) {
    const double cycles = strip != nullptr ? 2 * pairs(*strip) * double(dim_) : double(STRIP_ROWS) * double(dim_);
    std::atomic<int64_t> first{0};
    in_parallel(cycles, [&] {
      const Memory workspace = Memory::of_this_thread<Use::task>(kernels_.workspace(dim_));
      for (int64_t d; (d = first.fetch_add(depth_)) < dim_;) {
        const int64_t d_end = std::min(d + depth_, dim_);
        if (strip != nullptr) kernels_.differentiate(cloud_, *strip, results_, d, d_end, workspace.start());
        if (next != nullptr) kernels_.pack(cloud_, *next, d, d_end, workspace.start());
      }
    });
  }

  const StripKernels<T>& kernels_;
  const Cloud<T>& cloud_;
  const Results& results_;
  int64_t start_, stop_;
  bool whole_;
  int64_t dim_, depth_, tiles_;  // depth: coordinates at a time, so that there are some for each thread
  std::vector<double> sums_, row_q_, column_q_, energy_;
  Memory groups_, c_;
};

}  // namespace segma
