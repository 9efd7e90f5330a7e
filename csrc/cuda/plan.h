// Which kernel serves a call on a GPU, and how its work is divided among blocks and launches.
#pragma once

#include <algorithm>
#include <limits>
#include <string>

#include "cuda/kernels.h"

namespace segma::cuda {

#ifndef SEGMA_HALVES
#define SEGMA_HALVES 36'000'000
#endif
constexpr int64_t HALVES = SEGMA_HALVES;  // bytes of rounded sources in memory at once; later launches take the rest
constexpr int64_t SPLIT_FORCES = 16'000'000;  // bytes of forces that splits of the sources may leave to be added
constexpr int MOST_SPLITS = 32;
constexpr int64_t MOST_SAMPLES = 65535;  // of a launch
constexpr int MOST_PREPARED = 8192;      // dimensions whose centre fits into the shared memory of any GPU
// greatest c|x|^2/h of products, with the paper's c: of halves, of halves for `highest`, and of floats
constexpr float RESOLVED_BY_HALVES = 8192, RESOLVED_FINELY = 1024, RESOLVED_BY_FLOATS = 300;

struct Plan {
  Kernel kernel = nullptr;
  int rows = 0, threads = 0, shared = 0;   // of a block, and its bytes of shared memory
  int unit = 0;                            // sources that are not divided
  int teams = 1, stages = 1, at_once = 1;  // at_once: blocks on a multiprocessor
  Slabs slabs{16, PREPARED};
  float limit = 1;
  bool prepared = false;                             // by a launch of its own
  bool halves = false, low = false, coarse = false;  // points in fp16; see Work
  bool float64 = false;                              // results in double
};

inline Plan plan_few_dimensions(int dim, bool float64, bool gradient, bool exact) {
  Plan plan;
  plan.kernel = few_dimensions_kernel(dim, float64, gradient, exact);
  plan.rows = plan.threads = plan.unit = FEW_DIMENSIONS_ROWS;
  plan.shared = static_cast<int>(sizeof(FewDimensionsRoom) +
                                 (dim + 2) * FEW_DIMENSIONS_ROWS * (dim == 1 ? sizeof(double) : sizeof(float)));
  plan.teams = FEW_DIMENSIONS_TEAMS;
  plan.at_once = 2;
  plan.float64 = float64;
  return plan;
}

inline Plan plan_simt(int dim, bool float64, bool gradient, bool exact) {
  Plan plan;
  plan.prepared = !float64 && dim <= MOST_PREPARED;
  plan.kernel = simt_kernel(float64, plan.prepared, dim, gradient, exact);
  plan.rows = TEAM_ROWS;
  plan.threads = TEAM;
  plan.unit = SIMT_COLUMNS;
  plan.shared = static_cast<int>(sizeof(SimtBlockRoom) + simt_bytes(1, float64));
  plan.at_once = float64 ? 2 : 3;
  plan.slabs.width = dim;
  plan.limit = RESOLVED_BY_FLOATS;
  plan.float64 = float64;
  return plan;
}

// The most teams and stages that fit; no kernel where nothing does.
inline Plan plan_products(const Machine& machine, int width, bool low, bool fine, bool gradient, bool exact,
                          bool wgmma) {
  Plan plan;
  const int columns = wgmma ? WGMMA_COLUMNS : mma_columns(width, exact);
  const int room = static_cast<int>(wgmma ? sizeof(WgmmaRoom) : sizeof(MmaRoom));
  plan.unit = std::max(columns, PREPARED);
  plan.slabs = {width, columns};
  // matrix units cut what they add: the error of a score grows with the number of its products
  plan.limit =
      fine ? RESOLVED_FINELY : std::max(RESOLVED_BY_HALVES / 8, RESOLVED_BY_HALVES * 16 / static_cast<float>(width));
  plan.prepared = plan.halves = true;
  plan.low = low;
  for (plan.teams = 2; plan.teams >= (wgmma ? WGMMA_TEAMS : 1); --plan.teams) {
    for (plan.stages = wgmma ? MOST_STAGES : 3; plan.stages >= 2; --plan.stages) {
      const ProductsLayout layout{width, columns, low ? 2 : 1, plan.teams, plan.stages, arrays_of(exact)};
      plan.shared = room + std::max(layout.bytes(), ALIGNMENT + static_cast<int>(simt_bytes(plan.teams, false)));
      if (plan.shared > machine.shared) continue;
      plan.rows = plan.teams * TEAM_ROWS;
      plan.threads = wgmma ? WGMMA_THREADS : plan.teams * TEAM;
      plan.kernel = wgmma ? wgmma_kernel(width, low, fine, gradient, exact) : mma_kernel(width, low, gradient, exact);
      return plan;
    }
  }
  return plan;
}

inline Plan make_plan(const Machine& machine, int64_t dim, Kind kind, const std::string& precision, bool gradient,
                      bool exact) {
  Plan plan;
  if (dim == 1 || (dim <= FEW_DIMENSIONS && kind != Kind::float64)) {
    plan = plan_few_dimensions(static_cast<int>(dim), kind == Kind::float64, gradient, exact);
  } else if (kind != Kind::float64 && dim <= 256) {
    int width = 16;
    while (width < dim) width *= 2;
    // points of 16 bits fit one half only where the centre has few bits, and not always: `highest` takes two for them
    // too
    const bool fine = precision == "highest", low = fine || (kind == Kind::float32 && precision != "medium");
    if (machine.major == 9 && machine.minor == 0 && machine.wgmma && width <= (fine ? FINE_WIDEST : 128)) {
      plan = plan_products(machine, width, low, fine, gradient, exact, true);
    }
    if (plan.kernel == nullptr && !fine) plan = plan_products(machine, width, low, fine, gradient, exact, false);
  }
  if (plan.kernel == nullptr) plan = plan_simt(static_cast<int>(dim), kind == Kind::float64, gradient, exact);
  plan.coarse = plan.halves && precision != "highest" && (kind == Kind::half || kind == Kind::bfloat16);
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
  int blocks, splits, samples;           // blocks of rows of each of the samples of a launch
};

inline int64_t bytes_of_source(const Plan& plan) {  // in fp16
  return int64_t(plan.low ? 4 : 2) * plan.slabs.width;
}

// For the first of `samples`, as many as have room for their rounded sources.
inline Division divide(const Plan& plan, const Machine& machine, const Cloud& cloud, Index start, Index stop,
                       bool gradient, int64_t samples) {
  Division division{};
  division.middle = std::min(std::max(cloud.m, start), stop);
  division.padded = division.sources = (cloud.total + plan.unit - 1) / plan.unit * plan.unit;
  const auto blocks_of = [&](Index rows) { return (rows + plan.rows - 1) / plan.rows; };
  division.blocks = blocks_of(division.middle - start) + blocks_of(stop - division.middle);
  if (plan.halves) {
    const int64_t room = HALVES / bytes_of_source(plan);
    division.sources = static_cast<Index>(std::min<int64_t>(division.padded, std::max(int64_t(1), room / SPAN) * SPAN));
    samples = std::min(samples, std::max(int64_t(1), room / division.padded));
  }
  division.samples = static_cast<int>(std::min(samples, MOST_SAMPLES));
  if (division.sources < division.padded) {
    division.splits = 1;
    division.share = division.sources;
    return division;
  }
  const int64_t bytes = gradient ? division.samples * int64_t(stop - start) * cloud.dim * (plan.float64 ? 8 : 4) : 1;
  const int64_t units = division.padded / plan.unit;
  const int splits = choose_splits(division.samples * int64_t(division.blocks), units,
                                   SPLIT_FORCES / std::max<int64_t>(1, bytes), machine.processors * plan.at_once);
  division.share = static_cast<Index>((units + splits - 1) / splits * plan.unit);
  division.splits = (division.padded + division.share - 1) / division.share;
  return division;
}

}  // namespace segma::cuda
