// The kernels of cpu/kernels.h on one instruction set; included, like simd.h, inside the namespace of a code path.
//
// A task takes a block of rows against a block of columns. Its points are centred, rounded to T and laid out for
// broadcasts (row-major) and for vector loads (panels of columns). Then tile by tile, in the first-level cache:
//
//     scores    S = -2 X_P X_Q^T            register tiles of ROWS x 2 vectors
//     profile   r = (l_a + l_b + S)^(-1/2), C = w_a w_b r^3, sums of w_b r, w_a r and C
//     gradient  G_P += C X_Q, and for a mirrored task G_Q += C^T X_P
//
// Sums over lanes and tiles are taken in double. At the end, in its turn, the task adds G_a - (sum of C) x_a.

constexpr int64_t ROWS = SEGMA_ISA == 2 ? 12 : 6;     // rows of a register tile: 24 or 12 accumulators
constexpr int64_t TILE_ROWS = 48, TILE_COLUMNS = 96;  // C stays in the first-level cache
constexpr int64_t DEPTH = 256;                        // coordinates of a strip's operands that do, too
static_assert(STRIP_COLUMNS == TILE_COLUMNS && STRIP_ROWS % (2 * TILE_COLUMNS) == 0, "strips are made of tiles");

template <class T>
constexpr int64_t PANEL = 2 * LANES<T>;

SEGMA_INLINE int64_t round_up(int64_t size, int64_t unit) {
  return (size + unit - 1) / unit * unit;
}
SEGMA_INLINE int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

template <class T>
SEGMA_INLINE void fill_with_zeros(T* to, int64_t count) {
  __builtin_memset(to, 0, count * sizeof(T));
}

#include "cpu/isa/products.h"
#include "cpu/isa/points.h"
#include "cpu/isa/profile.h"
#include "cpu/isa/tasks.h"
#include "cpu/isa/strips.h"
#include "cpu/isa/one_dimension.h"
#include "cpu/isa/transform.h"
#include "cpu/isa/waves.h"

template <class T>
static constexpr Kernels<T> kernels() {
  return {PANEL<T> > 16 ? 96 : 48,
          workspace<T>,
          packed_bytes<T>,
          norms<T>,
          pack<T>,
          run<T>,
          {strip_workspace<T>, pack_strip<T>, score_any_tile<T>, differentiate_strip<T>},
          {project<T>, project_back<T>, add_waves<T>, differentiate_waves<T>}};
}
