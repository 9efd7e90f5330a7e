// Which kernel serves a call on a GPU, and how its work is divided among blocks and launches.
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "cuda_kernels.h"

namespace segma::cuda {

#ifndef SEGMA_HALVES
#define SEGMA_HALVES 36'000'000
#endif
constexpr int64_t HALVES = SEGMA_HALVES;  // bytes of rounded sources in memory at once; later launches take the rest
constexpr int64_t SPLIT_FORCES = 16'000'000;  // bytes of forces that splits of the sources may leave to be added
constexpr int MOST_SPLITS = 32;
constexpr int MOST_PREPARED = 8192;  // dimensions whose centre fits into the shared memory of any GPU
constexpr float RESOLVED_BY_HALVES = 8192, RESOLVED_BY_FLOATS = 300;  // greatest c|x|^2/h of products

struct Plan {
  Kernel kernel;
  const char* name;
  int rows, unit;              // of a block, and sources that are not divided
  int threads, shared;         // of a block, and its bytes of shared memory
  int teams, stages, at_once;  // at_once: blocks on a multiprocessor
  Slabs slabs;
  float limit;
  bool halves, low, coarse, prepared, twice;
};

inline int round_up(int64_t number, int64_t unit) {
  return static_cast<int>((number + unit - 1) / unit * unit);
}

inline Plan plan_few(int dim, bool twice, bool gradient) {
  const size_t points = (dim + 2) * FEW_ROWS * (dim == 1 ? sizeof(double) : sizeof(float));
  const int shared = static_cast<int>(sizeof(FewRoom) + points);
  return {few_kernel(dim, twice, gradient),
          "few",
          FEW_ROWS,
          FEW_ROWS,
          FEW_ROWS,
          shared,
          FEW_TEAMS,
          1,
          2,
          {16, 64},
          1,
          false,
          false,
          false,
          false,
          twice};
}

inline Plan plan_dense(int dim, bool twice, bool gradient) {
  const bool prepared = !twice && dim <= MOST_PREPARED;
  const int shared = static_cast<int>(sizeof(DenseBlockRoom) + dense_bytes(1, twice));
  return {dense_kernel(twice, prepared, dim, gradient),
          "dense",
          TEAM_ROWS,
          DENSE_COLUMNS,
          TEAM,
          shared,
          1,
          1,
          twice ? 1 : 3,
          {std::max(16, dim), DENSE_COLUMNS},
          RESOLVED_BY_FLOATS,
          false,
          false,
          false,
          prepared,
          twice};
}

// The most teams and stages that fit; none of them where nothing does.
inline Plan plan_products(const Machine& machine, int width, bool low, bool gradient, bool hopper) {
  const int columns = hopper ? HOPPER_COLUMNS : products_columns(width);
  const int room = static_cast<int>(hopper ? sizeof(HopperRoom) : sizeof(ProductsRoom)) + ALIGNMENT;
  for (int teams = 2; teams >= (hopper ? 2 : 1); --teams) {
    for (int stages = hopper ? MOST_STAGES : 3; stages >= 2; --stages) {
      const ProductsLayout layout{width, columns, low ? 2 : 1, teams, stages};
      const int shared = room + std::max(layout.bytes(), static_cast<int>(dense_bytes(teams, false)));
      if (shared > machine.shared) continue;
      return {hopper ? hopper_kernel(width, low, gradient) : products_kernel(width, low, gradient),
              hopper ? "hopper" : "products",
              teams * TEAM_ROWS,
              std::max(columns, PREPARED),
              hopper ? HOPPER_THREADS : teams * TEAM,
              shared,
              teams,
              stages,
              1,
              {width, columns},
              RESOLVED_BY_HALVES,
              true,
              low,
              false,
              true,
              false};
    }
  }
  return {};
}

inline Plan make_plan(const Machine& machine, int64_t dim, Kind kind, const std::string& precision, bool gradient) {
  const bool narrow = kind == Kind::half || kind == Kind::bfloat16;
  Plan plan{};
  if (dim == 1 || (dim <= FEW_DIMENSIONS && kind != Kind::float64)) {
    plan = plan_few(static_cast<int>(dim), kind == Kind::float64, gradient);
  } else if (kind != Kind::float64 && precision != "highest" && dim <= 256) {
    int width = 16;
    while (width < dim) width *= 2;
    const bool low = kind == Kind::float32 && precision != "medium";
    if (machine.major == 9 && machine.minor == 0 && machine.hopper && width <= 128) {
      plan = plan_products(machine, width, low, gradient, true);
    }
    if (plan.kernel == nullptr) plan = plan_products(machine, width, low, gradient, false);
  }
  if (plan.kernel == nullptr) plan = plan_dense(static_cast<int>(dim), kind == Kind::float64, gradient);
  plan.coarse = narrow && plan.halves;
  return plan;
}

// Among how many blocks the sources of one block of rows are divided.
inline int choose_splits(int64_t blocks, int64_t units, int64_t most, int64_t at_once) {
  int best = 1;
  double shortest = std::numeric_limits<double>::infinity();
  for (int splits = 1; splits <= std::min({units, most, int64_t(MOST_SPLITS)}); ++splits) {
    const int64_t waves = (blocks * splits + at_once - 1) / at_once;
    // half a unit for the beginning and the end of a block
    const double time = double(waves) * (double((units + splits - 1) / splits) + 0.5);
    if (time < 0.95 * shortest) best = splits, shortest = time;
  }
  return best;
}

struct Division {
  Index middle, padded, sources, share;  // rows before `middle` are codes; sources of a launch, and of a split
  int blocks, splits;
};

inline Division divide(const Plan& plan, const Machine& machine, const Cloud& cloud, Index start, Index stop,
                       bool gradient) {
  Division division{};
  division.middle = std::min(std::max(cloud.m, start), stop);
  division.padded = division.sources = (cloud.total + plan.unit - 1) / plan.unit * plan.unit;
  const auto blocks_of = [&](Index rows) { return (rows + plan.rows - 1) / plan.rows; };
  division.blocks = blocks_of(division.middle - start) + blocks_of(stop - division.middle);
  if (plan.halves) {
    const int64_t bytes = int64_t(plan.low ? 4 : 2) * plan.slabs.width * SPAN;
    division.sources =
        static_cast<Index>(std::min<int64_t>(division.padded, std::max(int64_t(1), HALVES / bytes) * SPAN));
  }
  if (division.sources < division.padded) {
    division.splits = 1;
    division.share = division.sources;
    return division;
  }
  const int64_t bytes = gradient ? int64_t(stop - start) * cloud.dim * (plan.twice ? 8 : 4) : 1;
  const int64_t units = division.padded / plan.unit;
  const int splits = choose_splits(division.blocks, units, SPLIT_FORCES / std::max<int64_t>(1, bytes),
                                   machine.processors * plan.at_once);
  division.share = static_cast<Index>((units + splits - 1) / splits * plan.unit);
  division.splits = (division.padded + division.share - 1) / division.share;
  return division;
}

}  // namespace segma::cuda
