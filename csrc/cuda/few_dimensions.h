// Pairs of points of few dimensions, by differences: a thread has a row, and all threads of a block pass over the
// sources.
#pragma once

#include "cuda/finish.h"
#include "cuda/prepare.h"

namespace segma::cuda {

constexpr int FEW_DIMENSIONS = 8;
constexpr int PART = 16;  // sources of which sums stay in Real
constexpr int FEW_DIMENSIONS_TEAMS = 2, FEW_DIMENSIONS_ROWS = FEW_DIMENSIONS_TEAMS * TEAM;  // and sources at once

struct alignas(16) FewDimensionsRoom {
  FinishRoom finish;
  double sizes[SAMPLE + 1];
};

// The unit of length: from gaps between points of a sample, because few dimensions have no usual distance. `sizes` has
// room for one number more than the sample.
template <int DIM>
SEGMA_DEVICE float unit_from_gaps(const Work& work, double* sizes) {
  const Cloud& cloud = work.cloud;
  if (gpu::thread() < SAMPLE) {
    const Index row = sampled(gpu::thread(), cloud.total), other = sampled((gpu::thread() + 1) % SAMPLE, cloud.total);
    double size = cloud.h(row) * work.wide;
    for (int d = 0; d < DIM; ++d) {
      const double gap = cloud.at<double>(row, d) - cloud.at<double>(other, d);
      size += gap * gap;
    }
    sizes[gpu::thread()] = size;
  }
  return unit_for(median(sizes, sizes[SAMPLE], FEW_DIMENSIONS_ROWS));
}

// A coordinate in units; one that is finite stays so, and so do its differences.
SEGMA_DEVICE float coordinate_in_units(float x, float inverse) {
  constexpr float FARTHEST = 8e37f;
  const float near = fminf(fmaxf(x * inverse, -FARTHEST), FARTHEST);
  return fabsf(x) < INFINITY ? near : x;
}
SEGMA_DEVICE double coordinate_in_units(double x, double) {
  return x;
}

// k, -2 dk/dt and -2 dk/dh without constant factors, from t = |a - b|^2 and both h/c; h itself in one dimension.
template <class Real, int DIM, bool EXACT>
SEGMA_DEVICE void pair_profile(const Work& work, Real t, Real h_a, Real h_b, Real& r, Real& pull, Real& widen) {
  if constexpr (DIM == 1) {
    const Real h = h_a + h_b, root = gpu::inverse_root(h), inverse = root * root;
    const Real s = t * inverse > Real(1e4) ? Real(1e4) : t * inverse;  // NaN stays
    r = root * exp(-s);
    pull = 2 * r * inverse;
    widen = r * inverse * (1 - 2 * s);
  } else {
    r = gpu::inverse_root(t + h_a + h_b);  // the widths first would be rounded alike for many pairs
    pull = widen = pull_of(r);
    if constexpr (EXACT) {
      const Real square = r * r, x = 2 * h_a * square + (2 * h_b * square - 1);
      Real q, steep;
      powers(work.polynomial(Real()).coefficients, float32_degree(DIM), x, q, steep);
      const Radial<Real> pair = radial<Real>(r, pull, x, q, steep);
      r = pair.value;
      pull = pair.pull;
      widen = pair.pull - 2 * pair.bend;
    }
  }
}

// Arithmetic in Real, results in Stored. One dimension is taken as it is, in double.
template <class Real, class Stored, int DIM, bool GRADIENT, bool EXACT>
__global__ void __launch_bounds__(FEW_DIMENSIONS_ROWS, 2) few_dimensions(const __grid_constant__ Work work) {
  const Cloud& cloud = work.cloud;
  const int mine = gpu::thread();
  FewDimensionsRoom& room = *reinterpret_cast<FewDimensionsRoom*>(gpu::shared_memory());
  Real(*points)[DIM + 2] = reinterpret_cast<Real(*)[DIM + 2]>(&room + 1);  // coordinates, h/c and weight of a source
  const RowBlock rows = RowBlock::of<Stored>(work, FEW_DIMENSIONS_ROWS);
  const Found<Stored> found = Found<Stored>::of(work, rows);
  const Sources sources = Sources::of(work);
  const Real unit = DIM == 1 ? Real(1) : static_cast<Real>(unit_from_gaps<DIM>(work, room.sizes)), inverse = 1 / unit;
  const double wide = work.wide / (static_cast<double>(unit) * unit);
  const auto width = [&](Index row) {
    const double exact = cloud.h(row) * wide;
    return static_cast<Real>(DIM > 1 && exact <= LEAST ? LEAST : exact);  // NaN stays
  };

  const bool inside = mine < rows.count;
  const Index own = rows.top + mine;
  Total<Real> u, q, forces[DIM];  // u is NaN where a coordinate is not finite: such a pair has k = 0
  Real x[DIM], h = 1;
  for (int d = 0; d < DIM; ++d) {
    x[d] = inside ? coordinate_in_units(cloud.at<Real>(own, d), inverse) : Real(0);
    u.add(Real(0) * x[d]);
  }
  if (inside) h = width(own);
  for (Index column = sources.first; column < sources.last; column += FEW_DIMENSIONS_ROWS) {
    const Index source = column + mine;
    const bool real = source < sources.last && source < cloud.total;
    gpu::barrier(0, FEW_DIMENSIONS_ROWS);
    for (int d = 0; d < DIM; ++d) {
      points[mine][d] = real ? coordinate_in_units(cloud.at<Real>(source, d), inverse) : Real(0);
    }
    points[mine][DIM] = real ? width(source) : Real(1);
    points[mine][DIM + 1] = real ? static_cast<Real>(cloud.w(source)) : Real(0);
    gpu::barrier(0, FEW_DIMENSIONS_ROWS);
    const Index same = own - column;
    for (int begin = 0; begin < FEW_DIMENSIONS_ROWS; begin += PART) {
      Real u_part = 0, q_part = 0, pulls[DIM] = {};
#pragma unroll
      for (int i = 0; i < PART; ++i) {
        const Real* other = points[begin + i];
        Real t = 0, gaps[DIM], r, pull, widen;
#pragma unroll
        for (int d = 0; d < DIM; ++d) {
          gaps[d] = other[d] - x[d];
          t += gaps[d] * gaps[d];
        }
        pair_profile<Real, DIM, EXACT>(work, t, h, other[DIM], r, pull, widen);
        const Real weight = begin + i == same ? Real(0) : other[DIM + 1];
        u_part += weight * r;
        if (!GRADIENT) continue;
        q_part += weight * widen;
        pull *= weight;
#pragma unroll
        for (int d = 0; d < DIM; ++d) pulls[d] += pull * gaps[d];
      }
      u.add(u_part);
      if (!GRADIENT) continue;
      q.add(q_part);
      for (int d = 0; d < DIM; ++d) forces[d].add(pulls[d]);
    }
  }
  if (inside) {
    found.add(mine, u.value(), q.value(), found.keep);
    for (int d = 0; GRADIENT && d < DIM; ++d) {
      Stored& place = found.forces[int64_t(mine) * DIM + d];
      place = static_cast<Stored>(found.keep ? place + forces[d].value() : forces[d].value());
    }
  }
  finish<Real, Stored, GRADIENT>(work, FEW_DIMENSIONS_ROWS, unit, room.finish,
                                 [&](Index row) { return rounded_width<Real>(cloud.h(row) * wide); });
}

}  // namespace segma::cuda
