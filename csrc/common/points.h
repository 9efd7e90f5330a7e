// The points of a cloud as the caller holds them.
#pragma once

#include <cstdint>

namespace segma {

enum class Kind { half, bfloat16, float32, float64 };

// The rows of `first`, then those of `second`.
struct Points {
  const void *first, *second;
  int64_t first_rows, rows, dim;
  Kind kind;
};

inline int64_t bytes_of(Kind kind) {
  return kind == Kind::float64 ? 8 : kind == Kind::float32 ? 4 : 2;
}

// The points of the i-th of several samples of one size, which lie one behind the other.
inline Points sample_of(Points points, int64_t i) {
  const int64_t row_bytes = points.dim * bytes_of(points.kind), second_rows = points.rows - points.first_rows;
  points.first = static_cast<const char*>(points.first) + i * points.first_rows * row_bytes;
  points.second = static_cast<const char*>(points.second) + i * second_rows * row_bytes;
  return points;
}

}  // namespace segma
