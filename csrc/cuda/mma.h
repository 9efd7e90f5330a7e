// Pairs by matrix products of fp16 coordinates on any GPU from compute capability 8.0 on: mma.sync, fed by cp.async.
//
// A team of four warps holds 64 rows, a warp 16 of them; the teams of a block share the tiles of sources, of which some
// are on their way while one is worked on.
#pragma once

#include <type_traits>

#include "cuda/simt.h"
#include "cuda/span.h"

namespace segma::cuda {

SEGMA_BOTH constexpr int mma_columns(int width, bool exact) {
  return width < 128 ? 64 : width == 256 && exact ? 16 : 32;
}  // sources of a tile

// Bytes of shared memory: rows of all teams, then tiles with their columns' numbers.
struct ProductsLayout {
  int width, columns, halves, teams, stages, arrays;  // arrays: numbers of a column

  SEGMA_BOTH int rows_bytes() const { return 2 * width * TEAM_ROWS * halves; }  // of a team
  SEGMA_BOTH int tile_bytes() const { return 2 * width * columns * halves; }
  SEGMA_BOTH int numbers_bytes() const { return arrays * columns * 4; }
  SEGMA_BOTH int tile_at(int stage) const { return teams * rows_bytes() + stage * tile_bytes(); }
  SEGMA_BOTH int numbers_at(int stage) const { return tile_at(stages) + stage * numbers_bytes(); }
  SEGMA_BOTH int bytes() const { return ALIGNMENT + numbers_at(stages); }
};

// Begins to copy the tile from `column` on.
SEGMA_DEVICE void fetch(const Work& work, const ProductsLayout& layout, char* memory, Index column, int stage,
                        int threads) {
  const char* from = reinterpret_cast<const char*>(work.tiles()) +
                     int64_t((column - work.offset) / layout.columns) * layout.tile_bytes();
  const uint32_t to = gpu::shared_address(memory + layout.tile_at(stage));
  for (int i = gpu::thread() * 16; i < layout.tile_bytes(); i += threads * 16) gpu::copy_16_bytes(to + i, from + i);
  const uint32_t numbers = gpu::shared_address(memory + layout.numbers_at(stage));
  const int pieces = layout.columns / 4;
  for (int i = gpu::thread(); i < layout.arrays * pieces; i += threads) {
    const float* array = work.singles.lifted() + i / pieces * work.singles.padded + column;
    gpu::copy_16_bytes(numbers + i * 16, array + i % pieces * 4);
  }
}

// Scores of a warp's 16 rows and all columns of a tile: small products in sums of their own.
template <int WIDTH, int COLUMNS, bool LOW>
SEGMA_DEVICE void find_scores(float (&scores)[COLUMNS / 8][4], uint32_t rows, uint32_t tile) {
  constexpr uint32_t ROWS_HALF = 2 * WIDTH * TEAM_ROWS, HALF = 2 * WIDTH * COLUMNS;  // bytes
  const int which = gpu::thread() % 32 / 8, row = gpu::thread() % 8, warp = gpu::thread() % TEAM / 32;
  const LanePieces<WIDTH, TEAM_ROWS> row_pieces(rows, warp * 16 + which % 2 * 8 + row);
  const LanePieces<WIDTH, COLUMNS> pieces(tile, which / 2 * 8 + row);
  float small[LOW ? COLUMNS / 8 : 1][4] = {};
#pragma unroll
  for (int j = 0; j < COLUMNS / 8; ++j) {
    for (int i = 0; i < 4; ++i) scores[j][i] = 0;
  }
#pragma unroll(WIDTH > 128 ? 2 : 4)
  for (int k = 0; k < WIDTH; k += 16) {
    uint32_t high_rows[4], low_rows[4];
    // lanes 0 to 15 of the rows ask for the first eight coordinates, the others for the next; of sources every other
    // eight
    const uint32_t piece = row_pieces.at(k) ^ (which / 2 << 4), source = pieces.at(k) ^ (which % 2 << 4);
    gpu::load_matrices(high_rows, piece);
    if constexpr (LOW) gpu::load_matrices(low_rows, piece + ROWS_HALF);
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j += 2) {
      uint32_t high[4], low[4];
      gpu::load_matrices(high, source + j * 8 * pieces.PITCH);
      if constexpr (LOW) {
        gpu::load_matrices(low, source + j * 8 * pieces.PITCH + HALF);
        for (int n = 0; n < 2; ++n) {
          gpu::multiply(small[j + n], low_rows, high[2 * n], high[2 * n + 1]);
          gpu::multiply(small[j + n], high_rows, low[2 * n], low[2 * n + 1]);
        }
      }
      for (int n = 0; n < 2; ++n) gpu::multiply(scores[j + n], high_rows, high[2 * n], high[2 * n + 1]);
    }
  }
  if constexpr (LOW) {
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; ++j) {
      for (int i = 0; i < 4; ++i) scores[j][i] += small[j][i];
    }
  }
}

// forces += weights x, of a warp's rows, the sources of a tile and all coordinates.
template <int WIDTH, int COLUMNS>
SEGMA_DEVICE void add_forces(float (&forces)[WIDTH / 8][4], const uint32_t (&weights)[COLUMNS / 8][2], uint32_t tile) {
  const int which = gpu::thread() % 32 / 8, row = gpu::thread() % 8;
  const LanePieces<WIDTH, COLUMNS> pieces(tile, which % 2 * 8 + row);
#pragma unroll
  for (int d = 0; d < WIDTH; d += 16) {
    const uint32_t piece = pieces.at(d) ^ (which / 2 << 4);
#pragma unroll
    for (int b = 0; b < COLUMNS; b += 16) {
      const uint32_t rows[4] = {weights[b / 8][0], weights[b / 8][1], weights[b / 8 + 1][0], weights[b / 8 + 1][1]};
      uint32_t x[4];
      gpu::load_matrices_transposed(x, piece + b * pieces.PITCH);
      gpu::multiply(forces[d / 8], rows, x[0], x[1]);
      gpu::multiply(forces[d / 8 + 1], rows, x[2], x[3]);
    }
  }
}

// Numbers that columns need, and the degree of Q that serves all dimensions of a width.
SEGMA_BOTH constexpr int arrays_of(bool exact) {
  return exact ? 4 : 3;
}
SEGMA_BOTH constexpr int degree_of(bool exact, int width) {
  return exact ? float32_degree(width / 2 + 1) : 0;
}

// The rest of the kernel's shared memory comes before the operands.
struct MmaRoom {
  FinishRoom finish;
  SpanRoom span;
  Judgement judged;
};

template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
SEGMA_DEVICE void by_mma(const Work& work, MmaRoom& room, char* memory) {
  const RowBlock rows = RowBlock::of<float>(work, work.teams * TEAM_ROWS);
  const Sources sources = Sources::of(work);
  const int threads = work.teams * TEAM;
  constexpr int COLUMNS = mma_columns(WIDTH, EXACT), DEGREE = degree_of(EXACT, WIDTH);
  constexpr bool LIGHT = GRADIENT && !EXACT && WIDTH < 256;  // tiles of codes alone on a path of their own
  const ProductsLayout layout{WIDTH, COLUMNS, LOW ? 2 : 1, work.teams, work.stages, arrays_of(EXACT)};
  const int team = gpu::thread() / TEAM, lane = gpu::thread() % 32;
  const int first_row = gpu::thread() / 32 * 16 + lane / 4;
  char* x_rows = memory + team * layout.rows_bytes();
  round_rows<WIDTH>(work, rows, team, x_rows);
  RowSums sums;
  sums.begin(work, rows, first_row, room.judged);

  Index next = sources.first;
  for (int stage = 0; stage < work.stages - 1; ++stage, next += COLUMNS) {
    if (next < sources.last) fetch(work, layout, memory, next, stage, threads);
    gpu::commit_copies();
  }
  if (GRADIENT) room.span.find_far_field(work, room.finish);
  int stage = 0;
  for (Index begin = sources.first; begin < sources.last; begin += SPAN) {
    const Index end = begin + SPAN < sources.last ? begin + SPAN : sources.last;
    float forces[GRADIENT ? WIDTH / 8 : 1][4] = {};
    for (Index column = begin; column < end; column += COLUMNS, next += COLUMNS) {
      if (work.stages > 2) {
        gpu::wait_for_copies<1>();
      } else {
        gpu::wait_for_copies<0>();
      }
      gpu::barrier(0, threads);  // the tile is there for all, and the one before it is done with
      const int free = stage == 0 ? work.stages - 1 : stage - 1;
      if (next < sources.last) fetch(work, layout, memory, next, free, threads);
      gpu::commit_copies();

      const uint32_t tile = gpu::shared_address(memory + layout.tile_at(stage));
      float scores[COLUMNS / 8][4];
      uint32_t weights[COLUMNS / 8][2];
      find_scores<WIDTH, COLUMNS, LOW>(scores, gpu::shared_address(x_rows), tile);
      const Columns columns{reinterpret_cast<const float*>(memory + layout.numbers_at(stage)), COLUMNS};
      const auto weigh = [&](auto heavy) {
        weigh_tile<COLUMNS, GRADIENT, DEGREE, decltype(heavy)::value>(
            &scores[0][0], weights, nullptr, sums, columns, rows.top + first_row - column, work.float32.coefficients);
      };
      if (LIGHT && column + COLUMNS <= work.cloud.m) {
        weigh(std::bool_constant<!LIGHT>());
      } else {
        weigh(std::true_type());
      }
      if constexpr (GRADIENT) add_forces<WIDTH, COLUMNS>(forces, weights, tile);
      stage = stage + 1 < work.stages ? stage + 1 : 0;
    }
    finish_span<WIDTH, LOW, false, GRADIENT, EXACT>(work, room.judged, sums, &forces[0][0], x_rows, room.span, begin,
                                                    end);
  }
  gpu::wait_for_copies<0>();
}

template <int WIDTH, bool LOW, bool GRADIENT, bool EXACT>
__global__ void __launch_bounds__(256, 1) mma(const __grid_constant__ Work work) {
  char* memory = gpu::shared_memory();
  MmaRoom& room = *reinterpret_cast<MmaRoom*>(memory);
  memory += sizeof(MmaRoom);
  memory += (ALIGNMENT - gpu::shared_address(memory)) % ALIGNMENT;
  judge(work, room.judged, work.teams * TEAM);
  if (room.judged.fits) {
    by_mma<WIDTH, LOW, GRADIENT, EXACT>(work, room, memory);
  } else {
    by_coordinates<float, true, 1, GRADIENT, EXACT>(work, work.teams * TEAM_ROWS, memory);
  }
  finish_found<float, GRADIENT>(work, room.judged.fits, room.finish);
}

}  // namespace segma::cuda
