// A point in the middle of a cloud that points far away do not move: scores are taken relative to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "common/points.h"

namespace segma {

inline double coordinate(const Points& points, int64_t row, int64_t d) {
  const bool first = row < points.first_rows;
  const int64_t index = (first ? row : row - points.first_rows) * points.dim + d;
  const void* base = first ? points.first : points.second;
  switch (points.kind) {
    case Kind::half:
      return static_cast<const torch::headeronly::Half*>(base)[index];
    case Kind::bfloat16:
      return static_cast<const torch::headeronly::BFloat16*>(base)[index];
    case Kind::float32:
      return static_cast<const float*>(base)[index];
    case Kind::float64:
      break;
  }
  return static_cast<const double*>(base)[index];
}

// Medians of medians of 27 rows, three at a time.
inline std::vector<double> quick_centre(const Points& points) {
  constexpr int64_t SOME = 27;
  const int64_t dim = points.dim;
  std::vector<double> values(SOME * dim);
  for (int64_t i = 0; i < SOME; ++i) {
    const int64_t row = (2 * i + 1) * points.rows / (2 * SOME);
    for (int64_t d = 0; d < dim; ++d) values[i * dim + d] = coordinate(points, row, d);
  }
  for (int64_t left = SOME / 3; left >= 1; left /= 3) {
    for (int64_t i = 0; i < left; ++i) {
      for (int64_t d = 0; d < dim; ++d) {
        const double *of = values.data() + 3 * i * dim + d, a = of[0], b = of[dim], c = of[2 * dim];
        values[i * dim + d] = std::max(std::min(a, b), std::min(std::max(a, b), c));
      }
    }
  }
  values.resize(dim);
  return values;
}

// The median of every coordinate.
inline std::vector<double> exact_centre(const Points& points) {
  std::vector<double> middle(points.dim), values(points.rows);
  for (int64_t d = 0; d < points.dim; ++d) {
    for (int64_t row = 0; row < points.rows; ++row) values[row] = coordinate(points, row, d);
    std::nth_element(values.begin(), values.begin() + points.rows / 2, values.end());
    middle[d] = values[points.rows / 2];
  }
  return middle;
}

}  // namespace segma
