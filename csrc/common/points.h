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

}  // namespace segma
