// Pairs by matrix products of fp16 coordinates on Hopper: wgmma, fed by the copy engine.
//
// Three warpgroups: two teams of 64 rows each, and one that only asks for copies. While the matrix units make the
// scores of one team, the other is at its reciprocal square roots. (Neither a third team, nor turns at the matrix
// units, nor scores that are asked for a tile ahead made it faster on an H200: accumulators pass through the registers
// that everything else needs too.)
#pragma once

#include <type_traits>

#include "cuda/mma.h"

namespace segma::cuda {

constexpr int WGMMA_TEAMS = 2, WGMMA_THREADS = (WGMMA_TEAMS + 1) * TEAM, WGMMA_COLUMNS = 128, MOST_STAGES = 4;

struct WgmmaRoom {
  FinishRoom finish;
  SpanRoom span;
  Judgement judged;
  uint64_t full[MOST_STAGES], empty[MOST_STAGES];
};

// An operand in shared memory: rows of a slab, 2 * WIDE bytes each, whose pieces are exchanged as in `Slabs`. The
// address is the same for all threads of a warp, so that descriptions cost no vector registers.
template <int WIDE>
class Operand {
 public:
  SEGMA_DEVICE explicit Operand(const char* memory) : low_(gpu::uniform(gpu::shared_address(memory) >> 4 | 1 << 16)) {}
  SEGMA_DEVICE uint64_t at(int bytes) const { return uint64_t(HIGH) << 32 | (low_ + (bytes >> 4)); }

 private:
  static constexpr uint32_t MODE = WIDE == 64 ? 1 : WIDE == 32 ? 2 : 3, EIGHT_ROWS = 8 * 2 * WIDE;
  static constexpr uint32_t HIGH = EIGHT_ROWS >> 4 | MODE << 30;
  uint32_t low_;
};

// One thread asks for all tiles of the sources, each as soon as its place is free.
SEGMA_DEVICE void fetch_all(const Work& work, const ProductsLayout& layout, char* memory, WgmmaRoom& room) {
  const Sources sources = Sources::of(work);
  int stage = 0, parity = 1;  // a place that was never used is free
  for (Index column = sources.first; column < sources.last; column += layout.columns) {
    gpu::wait_at(gpu::shared_address(&room.empty[stage]), parity);
    const uint32_t full = gpu::shared_address(&room.full[stage]);
    gpu::arrive_at(full, layout.tile_bytes() + layout.numbers_bytes());
    const char* tile = reinterpret_cast<const char*>(work.tiles()) +
                       int64_t((column - work.offset) / layout.columns) * layout.tile_bytes();
    gpu::copy_in_bulk(gpu::shared_address(memory + layout.tile_at(stage)), tile, layout.tile_bytes(), full);
    const uint32_t numbers = gpu::shared_address(memory + layout.numbers_at(stage));
    const int bytes = layout.columns * 4;
    for (int i = 0; i < layout.arrays; ++i) {
      gpu::copy_in_bulk(numbers + i * bytes, work.singles.lifted() + i * work.singles.padded + column, bytes, full);
    }
    if (++stage == work.stages) stage = 0, parity ^= 1;
  }
}

// Asks for the scores of a team's rows and the columns of a tile, the small products first.
template <int WIDTH, bool LOW, int WIDE>
SEGMA_DEVICE void ask_for_scores(float (&scores)[WGMMA_COLUMNS / 2], Operand<WIDE> rows, Operand<WIDE> tile) {
  constexpr int ROW_HALF = 2 * WIDTH * TEAM_ROWS, HALF = 2 * WIDTH * WGMMA_COLUMNS;
#pragma unroll
  for (int pass = LOW ? 0 : 2; pass < 3; ++pass) {
#pragma unroll
    for (int k = 0; k < WIDTH; k += 16) {
      const int slab = k / WIDE, inside = k % WIDE * 2;
      const int a = (pass == 0 ? ROW_HALF : 0) + slab * 2 * WIDE * TEAM_ROWS + inside;
      const int b = (pass == 1 ? HALF : 0) + slab * 2 * WIDE * WGMMA_COLUMNS + inside;
      gpu::multiply_memory<WGMMA_COLUMNS>(scores, rows.at(a), tile.at(b), k > 0 || pass > (LOW ? 0 : 2));
    }
  }
}

// Asks for the forces of weights and one half of the points of a tile, which begins `half` bytes after it.
template <int WIDTH, int WIDE>
SEGMA_DEVICE void ask_for_forces(float (&forces)[WIDTH / WIDE][WIDE / 2],
                                 const uint32_t (&weights)[WGMMA_COLUMNS / 8][2], Operand<WIDE> tile, int half,
                                 bool add) {
#pragma unroll
  for (int b = 0; b < WGMMA_COLUMNS; b += 16) {
    const uint32_t rows[4] = {weights[b / 8][0], weights[b / 8][1], weights[b / 8 + 1][0], weights[b / 8 + 1][1]};
#pragma unroll
    for (int slab = 0; slab < WIDTH / WIDE; ++slab) {
      const int place = half + slab * 2 * WIDE * WGMMA_COLUMNS + b * 2 * WIDE;
      gpu::multiply_registers<WIDE>(forces[slab], rows, tile.at(place), add || b > 0);
    }
  }
}

template <int WIDTH, bool LOW, bool FINE, bool GRADIENT, bool EXACT>
SEGMA_DEVICE void by_wgmma(const Work& work, const ProductsLayout& layout, char* memory, WgmmaRoom& room) {
  const RowBlock rows = RowBlock::of<float>(work, WGMMA_TEAMS * TEAM_ROWS);
  const Sources sources = Sources::of(work);
  constexpr int WIDE = WIDTH < 64 ? WIDTH : 64, COLUMNS = WGMMA_COLUMNS, DEGREE = degree_of(EXACT, WIDTH);
  // tiles of codes alone on a path of their own; at 128 dimensions, where products take longer, registers are short
  constexpr bool LIGHT = GRADIENT && !EXACT && !FINE && WIDTH < 128;
  static_assert(LOW || !FINE, "weights in two halves go with points in two");
  constexpr Index REACH = FINE ? SPAN / 4 : SPAN;  // matrix units cut long sums of forces too
  const int team = gpu::thread() / TEAM, lane = gpu::thread() % 32;
  const int first_row = gpu::thread() / 32 * 16 + lane / 4;
  char* x_rows = memory + team * layout.rows_bytes();
  round_rows<WIDTH>(work, rows, team, x_rows);
  gpu::show_memory_to_engines();
  if (GRADIENT) room.span.find_far_field(work, room.finish);
  gpu::barrier(team + 1, TEAM);
  const Operand<WIDE> row_operand(x_rows);
  RowSums sums;
  sums.begin(work, rows, first_row, room.judged);
  int stage = 0, parity = 0;
  for (Index begin = sources.first; begin < sources.last; begin += REACH) {
    const Index end = begin + REACH < sources.last ? begin + REACH : sources.last;
    float forces[WIDTH / WIDE][WIDE / 2];
    for (Index column = begin; column < end; column += COLUMNS) {
      gpu::wait_at(gpu::shared_address(&room.full[stage]), parity);
      const Operand<WIDE> tile(memory + layout.tile_at(stage));
      float scores[COLUMNS / 2];
      gpu::begin_products();
      ask_for_scores<WIDTH, LOW>(scores, row_operand, tile);
      gpu::commit_products();
      gpu::wait_for_products();  // and for the forces of the tile before, whose place is now free
      gpu::use_products(scores);
      if (column > sources.first && lane == 0) {
        gpu::arrive_at(gpu::shared_address(&room.empty[stage == 0 ? work.stages - 1 : stage - 1]));
      }
      uint32_t weights[COLUMNS / 8][2], low_weights[FINE ? COLUMNS / 8 : 1][2];
      const Columns columns{reinterpret_cast<const float*>(memory + layout.numbers_at(stage)), COLUMNS};
      const auto weigh = [&](auto heavy) {  // and ask at once, so that products begin before all weights are there
        weigh_tile<COLUMNS, GRADIENT, DEGREE, decltype(heavy)::value, FINE>(
            scores, weights, low_weights, sums, columns, rows.top + first_row - column, work.float32.coefficients);
        if constexpr (GRADIENT) {
          gpu::begin_products();
          ask_for_forces<WIDTH, WIDE>(forces, weights, tile, 0, column > begin);
          if constexpr (FINE) {
            ask_for_forces<WIDTH, WIDE>(forces, low_weights, tile, 0, true);
            ask_for_forces<WIDTH, WIDE>(forces, weights, tile, 2 * WIDTH * COLUMNS, true);
          }
          gpu::commit_products();
        }
      };
      if (LIGHT && column + COLUMNS <= work.cloud.m) {
        weigh(std::bool_constant<!LIGHT>());
      } else {
        weigh(std::bool_constant<!FINE>());
      }
      if (++stage == work.stages) stage = 0, parity ^= 1;
    }
    if (GRADIENT) gpu::wait_for_products();
    for (auto& slab : forces) gpu::use_products(slab);
    finish_span<WIDTH, LOW, FINE, GRADIENT, EXACT>(work, room.judged, sums, &forces[0][0], x_rows, room.span, begin,
                                                   end);
  }
}

template <int WIDTH, bool LOW, bool FINE, bool GRADIENT, bool EXACT>
SEGMA_DEVICE void hopper_block(const Work& work) {
  char* memory = gpu::shared_memory();
  WgmmaRoom& room = *reinterpret_cast<WgmmaRoom*>(memory);
  memory += sizeof(WgmmaRoom);
  memory += (ALIGNMENT - gpu::shared_address(memory)) % ALIGNMENT;
  const ProductsLayout layout{WIDTH, WGMMA_COLUMNS, LOW ? 2 : 1, WGMMA_TEAMS, work.stages, arrays_of(EXACT)};
  if (gpu::thread() == 0) {
    for (int i = 0; i < work.stages; ++i) {
      gpu::make_barrier(gpu::shared_address(&room.full[i]), 1);
      gpu::make_barrier(gpu::shared_address(&room.empty[i]), WGMMA_TEAMS * TEAM / 32);
    }
    gpu::barriers_are_made();
  }
  judge(work, room.judged, WGMMA_THREADS);  // with barriers of the block
  if (gpu::thread() >= WGMMA_TEAMS * TEAM) {
    gpu::give_registers<24>();
    if (room.judged.fits && gpu::thread() == WGMMA_TEAMS * TEAM) fetch_all(work, layout, memory, room);
  } else {
    gpu::take_registers<240>();
    if (room.judged.fits) {
      by_wgmma<WIDTH, LOW, FINE, GRADIENT, EXACT>(work, layout, memory, room);
    } else {
      by_coordinates<float, true, 1, GRADIENT, EXACT>(work, WGMMA_TEAMS * TEAM_ROWS, memory);
    }
    finish_found<float, GRADIENT>(work, room.judged.fits, room.finish);
  }
}

template <int WIDTH, bool LOW, bool FINE, bool GRADIENT, bool EXACT>
__global__ void __launch_bounds__(WGMMA_THREADS, 1) wgmma(const __grid_constant__ Work work) {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  hopper_block<WIDTH, LOW, FINE, GRADIENT, EXACT>(work);
#endif
}

}  // namespace segma::cuda
