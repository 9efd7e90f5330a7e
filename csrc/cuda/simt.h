// Pairs without matrix units, in float32 or float64, coordinate by coordinate: by products of what `prepare` centred,
// or by differences of the points as they are, which no offset and no size spoils. Any number of dimensions.
//
// A team holds 64 rows and takes 64 sources at a time; a thread holds 8 rows and 4 sources, or 8 rows and some
// coordinates of the forces, which wait in memory from tile to tile.
#pragma once

#include "cuda/finish.h"
#include "cuda/fragment.h"

namespace segma::cuda {

constexpr int SIMT_COLUMNS = 64, DEPTH = 16;  // sources, and coordinates at once for the scores
constexpr int SHARERS = 16;                   // threads that share eight rows

template <class Real>
struct SimtRoom {
  static constexpr int PITCH = 68;  // rows stay aligned to four numbers, and do not begin in one bank
  union {
    struct {
      alignas(16) Real rows[DEPTH][PITCH], sources[DEPTH][PITCH];
    } scores;
    alignas(16) Real points[SIMT_COLUMNS][PITCH];  // of the sources, for the forces
  };
  alignas(16) Real weights[SIMT_COLUMNS][PITCH];  // of the pairs: [source][row]
  Real mass[TEAM_ROWS];                           // the sum of a row of them
};

template <class Real>
struct Four {
  alignas(16) Real x[4];
};

template <class Real>
SEGMA_DEVICE Four<Real> four(const Real* place) {
  return *reinterpret_cast<const Four<Real>*>(place);
}

// A coordinate as the pairs see it: centred and in units, or as it is.
template <class Real, bool DIFFERENCES>
SEGMA_DEVICE Real coordinate(const Work& work, Index row, int d, Real inverse_unit) {
  const Real x = work.cloud.at<Real>(row, d);
  return DIFFERENCES ? x : (x - static_cast<Real>(work.singles.centre()[d])) * inverse_unit;
}

// Scores of 8 rows and 4 sources: products, or squared distances.
template <class Real, bool DIFFERENCES>
SEGMA_DEVICE void simt_scores(const Work& work, const RowBlock& rows, int team, Index column, SimtRoom<Real>& room,
                              Real inverse_unit, Real (&scores)[8][4]) {
  const int mine = gpu::thread() % TEAM, y = mine / 16 * 8, x = mine % 16;
  for (int begin = 0; begin < work.cloud.dim; begin += DEPTH) {
    const int depth = work.cloud.dim - begin < DEPTH ? work.cloud.dim - begin : DEPTH;
#pragma unroll 2
    for (int i = mine / 16; i < TEAM_ROWS; i += TEAM / 16) {
      const int row = team * TEAM_ROWS + i;
      const bool wanted = x < depth;
      room.scores.rows[x][i] = wanted && row < rows.count
                                   ? coordinate<Real, DIFFERENCES>(work, rows.top + row, begin + x, inverse_unit)
                                   : Real(0);
      room.scores.sources[x][i] = wanted && column + i < work.cloud.total
                                      ? coordinate<Real, DIFFERENCES>(work, column + i, begin + x, inverse_unit)
                                      : Real(0);
    }
    gpu::barrier(team + 1, TEAM);
    for (int k = 0; k < depth; ++k) {
      const Four<Real> low = four(&room.scores.rows[k][y]), high = four(&room.scores.rows[k][y + 4]);
      Real sources[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) sources[j] = room.scores.sources[k][x + 16 * j];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const Real a = i < 4 ? low.x[i % 4] : high.x[i % 4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const Real gap = sources[j] - a;
          scores[i][j] += DIFFERENCES ? gap * gap : a * sources[j];
        }
      }
    }
    gpu::barrier(team + 1, TEAM);
  }
}

// Forces of 8 rows in `EACH` coordinates, from the weights of a tile; to memory.
template <class Real, bool DIFFERENCES, int EACH>
SEGMA_DEVICE void simt_forces(const Work& work, const RowBlock& rows, const Found<Real>& found, int team, Index column,
                              SimtRoom<Real>& room, Real inverse_unit, bool more) {
  const int mine = gpu::thread() % TEAM, y = mine / 16 * 8, x = mine % 16, dim = work.cloud.dim;
  constexpr int WIDE = 16 * EACH;
  for (int begin = 0; begin < dim; begin += WIDE) {
#pragma unroll 2
    for (int i = mine / WIDE; i < SIMT_COLUMNS; i += TEAM / WIDE) {
      const int d = begin + mine % WIDE;
      const bool wanted = d < dim && column + i < work.cloud.total;
      room.points[i][mine % WIDE] = wanted ? coordinate<Real, DIFFERENCES>(work, column + i, d, inverse_unit) : Real(0);
    }
    Real own[DIFFERENCES ? 8 : 1][EACH], forces[8][EACH] = {};
#pragma unroll
    for (int i = 0; DIFFERENCES && i < 8; ++i) {
      const int row = team * TEAM_ROWS + y + i;
#pragma unroll
      for (int e = 0; e < EACH; ++e) {
        const int d = begin + EACH * x + e;
        const bool wanted = row < rows.count && d < dim;
        own[i][e] = wanted ? coordinate<Real, true>(work, rows.top + row, d, inverse_unit) : Real(0);
      }
    }
    gpu::barrier(team + 1, TEAM);
#pragma unroll 2
    for (int b = 0; b < SIMT_COLUMNS; ++b) {
      const Four<Real> low = four(&room.weights[b][y]), high = four(&room.weights[b][y + 4]);
      Real source[EACH];
#pragma unroll
      for (int e = 0; e < EACH; ++e) source[e] = room.points[b][EACH * x + e];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const Real weight = i < 4 ? low.x[i % 4] : high.x[i % 4];
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
          forces[i][e] += weight * (DIFFERENCES ? source[e] - own[i][e] : source[e]);
        }
      }
    }
    gpu::barrier(team + 1, TEAM);
#pragma unroll
    for (int i = 0; i < 8; ++i) {  // in the place of the points, so that they reach the memory row by row
#pragma unroll
      for (int e = 0; e < EACH; ++e) room.points[y + i][EACH * x + e] = forces[i][e];
    }
    gpu::barrier(team + 1, TEAM);
#pragma unroll 1
    for (int i = mine / WIDE; i < TEAM_ROWS; i += TEAM / WIDE) {
      const int row = team * TEAM_ROWS + i, d = begin + mine % WIDE;
      if (row >= rows.count || d >= dim) continue;
      Real force = room.points[i][mine % WIDE];
      if (!DIFFERENCES) force -= room.mass[i] * coordinate<Real, false>(work, rows.top + row, d, inverse_unit);
      Real& place = found.forces[int64_t(row) * dim + d];
      place = more ? place + force : force;
    }
    gpu::barrier(team + 1, TEAM);
  }
}

template <class Real, bool DIFFERENCES, int EACH, bool GRADIENT, bool EXACT>
SEGMA_DEVICE void by_coordinates(const Work& work, int rows_of_block, char* memory) {
  const RowBlock rows = RowBlock::of<Real>(work, rows_of_block);
  const Found<Real> found = Found<Real>::of(work, rows);
  const Sources sources = Sources::of(work);
  const int team = gpu::thread() / TEAM, mine = gpu::thread() % TEAM, y = mine / 16 * 8, x = mine % 16;
  SimtRoom<Real>& room = reinterpret_cast<SimtRoom<Real>*>(memory)[team];
  const Cloud& cloud = work.cloud;
  const double wide = work.wide;
  const Real inverse_unit = DIFFERENCES ? Real(1) : Real(1) / static_cast<Real>(work.singles.unit());
  Total<Real> u, q;                       // of the row y + x, by the first eight threads of a row
  Real lifted[8], widths[EXACT ? 8 : 1];  // widths: 2 h/c
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = team * TEAM_ROWS + y + i;
    const bool inside = row < rows.count;
    lifted[i] = !inside       ? Real(1)
                : DIFFERENCES ? static_cast<Real>(cloud.h(rows.top + row) * wide)
                              : static_cast<Real>(work.singles.lifted()[rows.top + row]);
    if (EXACT) widths[i] = !inside ? Real(1) : DIFFERENCES ? 2 * lifted[i] : work.singles.widths()[rows.top + row];
    // NaN where a coordinate is not finite, because such a pair has k = 0
    Real finite = 0;
    for (int d = x; DIFFERENCES && inside && d < cloud.dim; d += 16) {
      finite += Real(0) * cloud.at<Real>(rows.top + row, d);
    }
    finite = sum_of_lanes(finite, SHARERS);
    if (x == i) u.add(finite);
  }
  for (Index column = sources.first; column < sources.last; column += SIMT_COLUMNS) {
    Real scores[8][4] = {};
    simt_scores<Real, DIFFERENCES>(work, rows, team, column, room, inverse_unit, scores);
    const Index own = rows.top + team * TEAM_ROWS + y - column - x;  // column of the first row, from the thread's on
    Real mass[8] = {}, potential[8] = {}, bends[8] = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const Index b = column + x + 16 * j;
      const bool real = b < cloud.total && b < sources.last;
      const Real weight = real ? static_cast<Real>(cloud.w(b)) : Real(0);
      const Real other = !real         ? Real(1)
                         : DIFFERENCES ? static_cast<Real>(cloud.h(b) * wide)
                                       : static_cast<Real>(work.singles.lifted()[b]);
      const Real other_width = !EXACT ? Real(0) : DIFFERENCES || !real ? 2 * other : work.singles.widths()[b];
      Four<Real> pulls[2];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        // the widths first would be rounded alike for many pairs
        Real r = gpu::inverse_root(lifted[i] + (DIFFERENCES ? scores[i][j] : -2 * scores[i][j]) + other);
        if (own + i == 16 * j) r = 0;
        const Real weighted = weight * r, square = r * r;
        Radial<Real> pair{weighted, weighted * square, Real(0)};
        if constexpr (EXACT) {
          const Polynomial<Real>& polynomial = work.polynomial(Real());
          const Real x = widths[i] * square + (other_width * square - Real(1));
          Real q, steep;
          powers(polynomial.coefficients, polynomial.degree, x, q, steep);
          pair = radial<Real>(weighted, pair.pull, x, q, steep);
          bends[i] += pair.bend;
        }
        potential[i] += pair.value;
        mass[i] += pair.pull;
        pulls[i / 4].x[i % 4] = pair.pull;
      }
      if (GRADIENT) {
        for (int i = 0; i < 2; ++i) *reinterpret_cast<Four<Real>*>(&room.weights[x + 16 * j][y + 4 * i]) = pulls[i];
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      potential[i] = sum_of_lanes(potential[i], SHARERS);
      if (GRADIENT) mass[i] = sum_of_lanes(mass[i], SHARERS);
      if (GRADIENT && EXACT) bends[i] = sum_of_lanes(bends[i], SHARERS);
      if (x != i) continue;
      u.add(potential[i]);
      if (GRADIENT) q.add(mass[i] - 2 * bends[i]), room.mass[y + i] = mass[i];
    }
    if constexpr (GRADIENT) {
      simt_forces<Real, DIFFERENCES, EACH>(work, rows, found, team, column, room, inverse_unit,
                                           found.keep || column > sources.first);
    }
  }
  const int row = team * TEAM_ROWS + y + x;
  if (x < 8 && row < rows.count) found.add(row, u.value(), q.value(), found.keep);
}

constexpr size_t simt_bytes(int teams, bool float64) {
  return teams * (float64 ? sizeof(SimtRoom<double>) : sizeof(SimtRoom<float>));
}

struct alignas(16) SimtBlockRoom {
  FinishRoom finish;
  Judgement judged;
};

// One team a block, because teams have nothing in common here. PREPARED_POINTS: `prepare` was launched, and may have
// found that products resolve the cloud.
template <class Real, bool PREPARED_POINTS, int EACH, bool GRADIENT, bool EXACT>
__global__ void __launch_bounds__(TEAM, sizeof(Real) == 4 ? 3 : 2) simt(const __grid_constant__ Work work) {
  char* memory = gpu::shared_memory();
  SimtBlockRoom& room = *reinterpret_cast<SimtBlockRoom*>(memory);
  memory += sizeof(SimtBlockRoom);
  if constexpr (PREPARED_POINTS) {
    judge(work, room.judged, TEAM);
    if (room.judged.fits) by_coordinates<Real, false, EACH, GRADIENT, EXACT>(work, TEAM_ROWS, memory);
  }
  if (!PREPARED_POINTS || !room.judged.fits) by_coordinates<Real, true, 1, GRADIENT, EXACT>(work, TEAM_ROWS, memory);
  finish_found<Real, GRADIENT>(work, PREPARED_POINTS && room.judged.fits, room.finish);
}

}  // namespace segma::cuda
