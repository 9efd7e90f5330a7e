// The end of a block of rows: the last of its splits adds what all found, and the last block of all adds the energy.
#pragma once

#include "cuda/work.h"

namespace segma::cuda {

constexpr int FINISHERS = 256;     // threads of a block that take part, at most; 128 for each team
constexpr int FINISH_BARRIER = 4;  // theirs

struct FinishRoom {
  double pull[FINISHERS], sum[FINISHERS / 32];
  int before;
};

// How many blocks came here before this one; what they wrote before can be read with `load_fresh`.
SEGMA_DEVICE int arrive_at_counter(int* counter, FinishRoom& room, int threads) {
  gpu::barrier(FINISH_BARRIER, threads);
  if (gpu::thread() == 0) room.before = gpu::count_up(counter);
  gpu::barrier(FINISH_BARRIER, threads);
  return room.before;
}

// The sum over all finishers, for each of them.
SEGMA_DEVICE double sum_of_block(double x, FinishRoom& room, int threads) {
  x = sum_of_lanes(x, 32);
  if (gpu::thread() % 32 == 0) room.sum[gpu::thread() / 32] = x;
  gpu::barrier(FINISH_BARRIER, threads);
  double sum = 0;
  for (int i = 0; i < threads / 32; ++i) sum += room.sum[i];
  return sum;
}

// A width as its pairs hold it; k_aa of one that is too small for that stays exact.
template <class Real>
SEGMA_DEVICE double rounded_width(double width) {
  return width >= LEAST ? static_cast<double>(static_cast<Real>(width)) : width;
}

// Writes gradients of the rows and, in the last block, the energy. `own` gives h/c of a row in squares of `unit`, as
// its pairs see it, in the arithmetic of Real. Factors: common/profile.h.
template <class Real, class Stored, bool GRADIENT, class Own>
SEGMA_DEVICE void finish(const Work& work, int rows_of_block, double unit, FinishRoom& room, Own own) {
  if (!work.last) return;
  const int threads = work.teams * TEAM, block = gpu::block_x();
  const RowBlock rows = RowBlock::of<Stored>(work, rows_of_block);
  if (work.splits > 1 && arrive_at_counter(work.ticket(block), room, threads) != work.splits - 1) return;
  const int thread = gpu::thread(), dim = work.cloud.dim;
  const double wide = work.wide / (unit * unit);
  const double factor = sqrt(work.wide) * INV_SQRT_PI / unit;
  gpu::barrier(FINISH_BARRIER, threads);
  double part = 0;
  if (thread < rows.count) {
    double u = 0, q = 0;
#pragma unroll 4
    for (int split = 0; split < work.splits; ++split) {
      u += gpu::load_fresh(&work.u_sums[work.place(split, rows.local + thread)]);
      q += gpu::load_fresh(&work.q_sums[work.place(split, rows.local + thread)]);
    }
    const double weight = static_cast<Real>(work.cloud.w(rows.top + thread));
    const double root = gpu::inverse_root(2.0 * own(rows.top + thread));
    u += weight * root * work.own;
    part = weight * u * factor;
    if (GRADIENT) {
      const int64_t place = gpu::block_z() * work.rows() + rows.local + thread;
      work.dw[place] = 2.0 * factor * u;
      work.dh[place] = -factor * wide * weight * (q + weight * root * root * root * work.own);
      room.pull[thread] = 2.0 * factor / unit * weight;
    }
  }
  const double sum = sum_of_block(part, room, threads);
  if (GRADIENT) {
    Stored* results = static_cast<Stored*>(rows.results);
    const Stored* forces = static_cast<const Stored*>(work.forces) + work.place(0, rows.local) * dim;
    const int numbers = rows.count * dim;  // a block's: 32 bits, of which a division is short
    for (int begin = thread; begin < numbers; begin += AT_ONCE * threads) {  // many are loaded at once
      double sums[AT_ONCE] = {};
#pragma unroll 4
      for (int split = 0; split < work.splits; ++split) {
        const Stored* found = work.splits > 1 ? forces + split * work.rows() * dim : results;
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
          const int i = begin + k * threads;
          if (i < numbers) sums[k] += gpu::load_fresh(&found[i]);
        }
      }
#pragma unroll
      for (int k = 0; k < AT_ONCE; ++k) {
        const int i = begin + k * threads;
        if (i < numbers) results[i] = static_cast<Stored>(sums[k] * room.pull[i / dim]);
      }
    }
  }
  if (thread == 0) *work.part(block) = sum;
  const int blocks = gpu::blocks_x();
  if (arrive_at_counter(work.ticket(blocks), room, threads) != blocks - 1) return;
  double energy = 0;
  for (int i = thread; i < blocks; i += threads) energy += gpu::load_fresh(work.part(i));
  energy = sum_of_block(energy, room, threads);
  if (thread == 0) *of_sample(work.energy, 1) = work.whole && energy < 0.0 ? 0.0 : energy;
}

// The same for rows whose pairs were taken in the units of `prepare`, or as the points are.
template <class Real, bool GRADIENT>
SEGMA_DEVICE void finish_found(const Work& work, bool in_units, FinishRoom& room) {
  const double unit = in_units ? static_cast<double>(work.singles.unit()) : 1.0;
  finish<Real, Real, GRADIENT>(work, work.teams * TEAM_ROWS, unit, room, [&](Index row) {
    return in_units ? *work.seen_width(row) : rounded_width<Real>(work.cloud.h(row) * work.wide);
  });
}

}  // namespace segma::cuda
