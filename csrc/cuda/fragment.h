// Pairs on the way between two matrix products, where both engines (mma.sync and wgmma) hold them alike.
//
// A warp holds 16 rows: its lane has rows lane / 4 and lane / 4 + 8, and of every eight columns the two from
// lane % 4 * 2 on. Scores x_a x_b come in; out go P_ab = w_b r^3 - a_a w_b s_b in fp16, as the first operand of the
// next product takes them, and the sums of every row. For the exact form P_ab = w_b r^3 P(tau) - a_a w_b s_b.
#pragma once

#include "cuda/prepare.h"

namespace segma::cuda {

constexpr float HEAVIEST = 49152.0f;  // of the weights that are rounded to fp16
constexpr float CLOSE = 1e3f;         // heaviest pair over all usual ones; one of close points errs by 2^-12 of it
constexpr float OUTWEIGHS = 2;        // one pair of a row over all that is usual for it
constexpr float SPREAD = 5e7f;        // of their sizes: at 49152 / 5e7 = 1e-3 fp16 still has 11 bits

// Whether products can hold the cloud, and the size of the weights rounded to fp16, a power of 2. It stays in shared
// memory, so that no register keeps it while pairs are evaluated.
struct Judgement {
  float warps[3 * 12];
  int exponent;  // of the size, in powers of 8
  bool fits;

  // 8^exponent, the size of the rounded weights. In pairs r is divided by 2^exponent, and so r^3 by the size at once.
  SEGMA_DEVICE float scale() const { return power_of_two(3 * exponent); }
  SEGMA_DEVICE float root_scale() const { return power_of_two(exponent); }
};

// By all threads of a block.
SEGMA_DEVICE void judge(const Work& work, Judgement& judged, int threads) {
  float most = 0, size = 0, misfits = 0;
  for (int i = gpu::thread(); i < work.singles.blocks(); i += threads) {
    most = fmaxf(most, work.singles.numbers(0)[i]);
    size += work.singles.numbers(1)[i];
    misfits += work.singles.numbers(2)[i];
  }
  for (int step = 1; step < 32; step *= 2) {
    most = fmaxf(most, gpu::shuffle_xor(most, step));
    size += gpu::shuffle_xor(size, step);
    misfits += gpu::shuffle_xor(misfits, step);
  }
  float* mine = judged.warps + gpu::thread() / 32 * 3;
  if (gpu::thread() % 32 == 0) mine[0] = most, mine[1] = size, mine[2] = misfits;
  gpu::barrier(0, threads);
  if (gpu::thread() == 0) {
    for (const float* other = judged.warps + 3; other < judged.warps + threads / 32 * 3; other += 3) {
      most = fmaxf(most, other[0]);
      size += other[1];
      misfits += other[2];
    }
    const float usual = size / static_cast<float>(work.cloud.total);
    const int exponent = static_cast<int>(gpu::bits_as<uint32_t>(fmaxf(most / HEAVIEST, usual)) >> 23) + 1;
    judged.exponent = ((exponent < 252 ? exponent : 252) + 1) / 3 - 42;  // rounded up
    judged.fits = misfits < 2.0f && most <= usual * SPREAD && most <= size * CLOSE;
  }
  gpu::barrier(0, threads);
}

// A tile's columns in shared memory: l, then weights, then w s, then 2 h/c for the exact form.
struct Columns {
  const float* numbers;
  int count;
};

// The two rows of a lane.
struct RowSums {
  // stretch: of t, so that r^3 is in units of the rounded weights, as all sums but u are; less: -a_a in these units;
  // width: 2 h/c, stretched too, of use for the exact form
  float lifted[2], less[2], width[2], stretch;
  LongSum u[2];
  float p[2], q[2];  // of a span: of what fp16 left of the weights, and for the widths (where Q = 1 beyond p)

  SEGMA_DEVICE void begin(const Work& work, const RowBlock& rows, int first_row, const Judgement& judged) {
    const float far = work.singles.far(), usual = far_scale(far, far);
    stretch = power_of_two(2 * judged.exponent);
    for (int i = 0; i < 2; ++i) {
      const int row = first_row + 8 * i;
      const float lift = row < rows.count ? work.singles.lifted()[rows.top + row] : 1.0f;
      lifted[i] = stretch * lift;
      width[i] = row < rows.count ? stretch * work.singles.widths()[rows.top + row] : 1.0f;
      less[i] = -far_scale(lift, far) / (usual * judged.scale());
      q[i] = p[i] = 0;
    }
  }
};

struct alignas(8) Two {
  float x[2];
};

// Scores of a tile, in turn weights (pairs of one row in fp16); `own` is the column of the lane's first row, which may
// lie anywhere. HEAVY: some sources may be means, of which one can weigh as much as all codes; what rounding takes from
// such a weight counts in the sum for the widths. FINE: weights are sums of two halves, and the low ones go to
// `low_weights`.
template <int COLUMNS, bool GRADIENT, int DEGREE, bool HEAVY, bool FINE = false>
SEGMA_DEVICE void weigh_tile(float* scores, uint32_t (&weights)[COLUMNS / 8][2], uint32_t (*low_weights)[2],
                             RowSums& sums, const Columns& columns, Index own, const float* coefficients) {
  const int first = gpu::thread() % 4 * 2;
  if (own > -16 && own < COLUMNS) {  // a point and itself: so far apart that r is 0
#pragma unroll
    for (int k = 0; k < COLUMNS / 2; ++k) {
      if (first + k / 4 * 8 + k % 2 == own + k / 2 % 2 * 8) scores[k] = -HUGE_VALF;
    }
  }
  float u[2] = {};
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; ++j) {
    const float* numbers = columns.numbers + 8 * j + first;
    const Two lifted = *reinterpret_cast<const Two*>(numbers);
    const Two weight = *reinterpret_cast<const Two*>(numbers + columns.count);
    const Two sigma = *reinterpret_cast<const Two*>(numbers + 2 * columns.count);
    Two width{};
    if constexpr (DEGREE > 0) width = *reinterpret_cast<const Two*>(numbers + 3 * columns.count);
    if constexpr (DEGREE > 0) width.x[0] *= sums.stretch, width.x[1] *= sums.stretch;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float rest[2], bend = 0;
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float r = gpu::inverse_root(
            fmaf(-2.0f * sums.stretch, scores[4 * j + 2 * i + e], fmaf(sums.stretch, lifted.x[e], sums.lifted[i])));
        const float weighted = r * weight.x[e], square = r * r;
        if constexpr (DEGREE > 0) {  // one width after the other: their sum would be rounded alike for many pairs
          const float x = fmaf(sums.width[i], square, fmaf(width.x[e], square, -1.0f));
          float q, steep;
          powers(coefficients, DEGREE, x, q, steep);
          const Radial<float> pair = radial<float>(weighted, weighted * square, x, q, steep);
          u[i] += pair.value;
          rest[e] = fmaf(sums.less[i], sigma.x[e], pair.pull);
          bend += pair.bend;
        } else {
          u[i] += weighted;
          if (GRADIENT) rest[e] = fmaf(weighted, square, sums.less[i] * sigma.x[e]);
        }
      }
      if (GRADIENT) {
        weights[j][i] = gpu::pack_halves(rest[0], rest[1]);
        float held[2];
        for (int e = 0; e < 2; ++e) held[e] = gpu::from_half(static_cast<uint16_t>(weights[j][i] >> 16 * e));
        if constexpr (FINE) {
          const uint32_t low = low_weights[j][i] = gpu::pack_halves(rest[0] - held[0], rest[1] - held[1]);
          for (int e = 0; e < 2; ++e) held[e] += gpu::from_half(static_cast<uint16_t>(low >> 16 * e));
        }
        const float both = held[0] + held[1];
        sums.p[i] += both;
        if constexpr (DEGREE > 0) {
          sums.q[i] += rest[0] + rest[1] - 2 * bend;
        } else if (HEAVY) {
          sums.q[i] += (rest[0] + rest[1]) - both;
        }
      }
    }
  }
  sums.u[0].add(u[0]);
  sums.u[1].add(u[1]);
}

// A team's rows as `prepare` rounds them, into shared memory; many are loaded before one is stored.
template <int WIDTH>
SEGMA_DEVICE void round_rows(const Work& work, const RowBlock& rows, int team, char* x_rows) {
  const Slabs tile{WIDTH, TEAM_ROWS};
  const float inverse = 1.0f / work.singles.unit();
  uint16_t* halves = reinterpret_cast<uint16_t*>(x_rows);
  for (int begin = gpu::thread() % TEAM; begin < TEAM_ROWS * WIDTH; begin += AT_ONCE * TEAM) {
    float x[AT_ONCE];
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const int row = team * TEAM_ROWS + (begin + k * TEAM) / WIDTH, d = (begin + k * TEAM) % WIDTH;
      const bool inside = row < rows.count && d < work.cloud.dim;
      x[k] = inside ? (work.cloud.at<float>(rows.top + row, d) - work.singles.centre()[d]) * inverse : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < AT_ONCE; ++k) {
      const int place = tile.place((begin + k * TEAM) / WIDTH, (begin + k * TEAM) % WIDTH);
      const uint16_t high = gpu::to_half(x[k]);
      halves[place / 2] = high;
      if (work.low) halves[(tile.tile_bytes() + place) / 2] = gpu::to_half(x[k] - gpu::from_half(high));
    }
  }
}

}  // namespace segma::cuda
