// What surrounds the tiles of a block: the far field of its sources before them, and the end of a span of them.
#pragma once

#include "cuda/finish.h"
#include "cuda/fragment.h"

namespace segma::cuda {

// What a block keeps of its sources and spans: how all sources look from afar, which is the same for all rows, and the
// sums p and q of every row over the spans so far.
struct SpanRoom {
  float pull[256];             // sum of w s x
  double mass, size;           // sums of w s and of their sizes
  double sums[2 * FINISHERS];  // p, then q; before the first span parts of the far field

  // By all teams of the block.
  SEGMA_DEVICE void find_far_field(const Work& work, FinishRoom& room) {
    const Sources sources = Sources::of(work);
    const int from = sources.first / PREPARED, to = (sources.last + PREPARED - 1) / PREPARED;
    const int width = work.slabs.width, threads = work.teams * TEAM, thread = gpu::thread();
    const int pieces = width / 2, shares = threads / pieces;
    const float* field = work.singles.field() + thread % pieces * 2;
    LongSum found[2];
#pragma unroll 8
    for (int i = from + thread / pieces; i < to; i += shares) {
      const Two x = *reinterpret_cast<const Two*>(field + i * int64_t(width));
      for (int e = 0; e < 2; ++e) found[e].add(x.x[e]);
    }
    for (int e = 0; e < 2; ++e) sums[2 * thread + e] = found[e].value();
    double all_mass = 0, all_size = 0;
    for (int i = from + thread; i < to; i += threads) {
      all_mass += work.singles.numbers(3)[i];
      all_size += work.singles.numbers(1)[i];
    }
    all_mass = sum_of_block(all_mass, room, threads);
    gpu::barrier(FINISH_BARRIER, threads);
    all_size = sum_of_block(all_size, room, threads);
    if (thread == 0) mass = all_mass, size = all_size;
    for (int d = thread; d < width; d += threads) {
      double sum = 0;
      for (int share = 0; share < shares; ++share) sum += sums[share * width + d];
      pull[d] = static_cast<float>(sum);
    }
    gpu::barrier(FINISH_BARRIER, threads);
  }
};

// The place of a lane's forces: of two rows, and of every eight columns the two from lane % 4 * 2 on.
struct ForcePlace {
  float* rows[2];
  int columns[2];  // of the memory, from the lane's first on; 0 for a row that is not there

  SEGMA_DEVICE static ForcePlace of(const Found<float>& found, int row, int count) {
    const int first = gpu::thread() % 4 * 2;
    ForcePlace place;
    for (int i = 0; i < 2; ++i) {
      place.rows[i] = found.forces + int64_t(row + 8 * i) * found.dim + first;
      place.columns[i] = row + 8 * i < count ? found.dim - first : 0;
    }
    return place;
  }

  // Adds the forces to the memory, or writes them. Many are loaded before one is stored, so that they are waited for
  // once; EVEN: pairs of columns lie together.
  template <int WIDTH, bool EVEN>
  SEGMA_DEVICE void add(const float* forces, float scale, bool more) const {
    constexpr int ALL = WIDTH / 4, AT_ONCE = ALL < 16 ? ALL : 16;  // pairs of columns
#pragma unroll
    for (int begin = 0; begin < ALL; begin += AT_ONCE) {
      Two sums[AT_ONCE] = {};
      if (more) {
#pragma unroll
        for (int n = 0; n < AT_ONCE; ++n) {
          const int i = (begin + n) % 2, column = (begin + n) / 2 * 8;
          const float* place = rows[i] + column;
          if (EVEN) {
            if (column < columns[i]) sums[n] = *reinterpret_cast<const Two*>(place);
          } else {
            for (int e = 0; e < 2; ++e) {
              if (column + e < columns[i]) sums[n].x[e] = place[e];
            }
          }
        }
      }
#pragma unroll
      for (int n = 0; n < AT_ONCE; ++n) {
        const int i = (begin + n) % 2, column = (begin + n) / 2 * 8;
        float* place = rows[i] + column;
        for (int e = 0; e < 2; ++e) sums[n].x[e] = fmaf(scale, forces[2 * (begin + n) + e], sums[n].x[e]);
        if (EVEN) {
          if (column < columns[i]) *reinterpret_cast<Two*>(place) = sums[n];
        } else {
          for (int e = 0; e < 2; ++e) {
            if (column + e < columns[i]) place[e] = sums[n].x[e];
          }
        }
      }
    }
  }
};

// The end of the last span: the far field and -p_a x_a for the forces, in the units of the rounded weights; u and q go
// to memory. `x_rows` are the team's rows as the products see them, slab by slab.
template <int WIDTH, bool LOW, bool FINE, bool GRADIENT>
SEGMA_DEVICE void finish_rows(const RowSums& sums, const Found<float>& found, int row, int count,
                              const Judgement& judged, float* forces, const char* x_rows, const SpanRoom& room) {
  const int lane = gpu::thread() % 32;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const double u = judged.root_scale() * sum_of_lanes(sums.u[i].value(), 4);
    double q = 0;
    if constexpr (GRADIENT) {
      const float alpha = -sums.less[i], mass = static_cast<float>(room.mass);
      const float p = static_cast<float>(room.sums[row + 8 * i]);
      q = judged.scale() * (room.sums[FINISHERS + row + 8 * i] + alpha * room.mass);
      // But for FINE the forces lack the low halves of the sources. Where one pair outweighs all usual ones, its row
      // lacks it too, so that equal points do not pull at each other.
      const bool lacks = LOW && !FINE && fabsf(p) > OUTWEIGHS * alpha * room.size;
      const LanePieces<WIDTH, TEAM_ROWS> pieces(0, row % TEAM_ROWS);
#pragma unroll
      for (int j = 0; j < WIDTH / 8; ++j) {
        const char* place = x_rows + pieces.at(8 * j, 8 * i) + lane % 4 * 4;
        const uint32_t high = *reinterpret_cast<const uint32_t*>(place);
        const uint32_t low = LOW ? *reinterpret_cast<const uint32_t*>(place + 2 * WIDTH * TEAM_ROWS) : 0;
        const Two pull = *reinterpret_cast<const Two*>(room.pull + 8 * j + lane % 4 * 2);
        for (int e = 0; e < 2; ++e) {
          const float x_high = gpu::from_half(static_cast<uint16_t>(high >> 16 * e));
          const float x = x_high + (LOW ? gpu::from_half(static_cast<uint16_t>(low >> 16 * e)) : 0.0f);
          forces[4 * j + 2 * i + e] += alpha * (pull.x[e] - mass * x) - p * (lacks ? x_high : x);
        }
      }
    }
    if (row + 8 * i < count && lane % 4 == 0) found.add(row + 8 * i, u, q, found.keep);
  }
}

// The end of a span: the forces, a lane's fragment (two rows, WIDTH / 4 columns) of the product of weights and points,
// go to the memory of the rows, with all else that the rows need after the last span.
template <int WIDTH, bool LOW, bool FINE, bool GRADIENT, bool EXACT>
SEGMA_DEVICE void finish_span(const Work& work, const Judgement& judged, RowSums& sums, float* forces,
                              const char* x_rows, SpanRoom& room, Index begin, Index end) {
  const RowBlock rows = RowBlock::of<float>(work, work.teams * TEAM_ROWS);
  const Found<float> found = Found<float>::of(work, rows);
  const Sources sources = Sources::of(work);
  const int row = gpu::thread() / 32 * 16 + gpu::thread() % 32 / 4;
  if constexpr (GRADIENT) {
    for (int i = 0; i < 2; ++i) {
      const double p = sum_of_lanes<double>(sums.p[i], 4);
      const double q = sum_of_lanes<double>(sums.q[i], 4) + (EXACT ? 0.0 : p);
      double* totals = room.sums + row + 8 * i;
      if (gpu::thread() % 4 == 0) {
        totals[0] = begin > sources.first ? totals[0] + p : p;
        totals[FINISHERS] = begin > sources.first ? totals[FINISHERS] + q : q;
      }
      sums.p[i] = sums.q[i] = 0;
    }
    gpu::warp_barrier();
  }
  if (end == sources.last) {
    finish_rows<WIDTH, LOW, FINE, GRADIENT>(sums, found, row, rows.count, judged, forces, x_rows, room);
  }
  if constexpr (GRADIENT) {
    const ForcePlace place = ForcePlace::of(found, row, rows.count);
    const bool more = found.keep || begin > sources.first;
    if (found.dim % 2 == 0) {
      place.add<WIDTH, true>(forces, judged.scale(), more);
    } else {
      place.add<WIDTH, false>(forces, judged.scale(), more);
    }
  }
}

}  // namespace segma::cuda
