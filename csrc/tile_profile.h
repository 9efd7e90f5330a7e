// From scores to the profile of a tile and its sums, included inside the namespace of a path.

// A block and what is summed for it: over the tile at hand (a vector a row, a number a column), and over the task.
template <class T>
struct Sums {
  Block<T> points;
  T *u, *q;         // (size, LANES): sums of w_b r and of w_a w_b r^3
  double *du, *dq;  // (size,): u and q over the task
  T* gradient;      // as x: sums of w_a w_b r^3 x_b
};

template <class T>
struct Tile {
  const Sums<T>&rows, &columns;
  int64_t row, column;  // of the register tile, within the blocks
  T* c;                 // (TILE_ROWS, TILE_COLUMNS), at the register tile: the scores, then w_a w_b r^3
};

// MASKED: the register tile may hold points with themselves, whose r is set to 0.
template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS, bool MASKED>
SEGMA_INLINE void profile_of_tile(const Tile<T>& tile, T lowest) {
  const Block<T>&rows = tile.rows.points, &columns = tile.columns.points;
  Vec<T> lift[2], weight[2], u_columns[2] = {}, q_columns[2] = {};
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    lift[v] = load(columns.lift + tile.column + v * LANES<T>);
    weight[v] = load(columns.weight + tile.column + v * LANES<T>);
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < ROWS; ++i) {
    const int64_t a = tile.row + i;
    const T own_lift = rows.lift[a], own_weight = rows.weight[a];
    Vec<T> u = load(tile.rows.u + a * LANES<T>), q{};
    if (GRADIENT) q = load(tile.rows.q + a * LANES<T>);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      Vec<T> argument = (own_lift + lift[v]) + load(tile.c + i * TILE_COLUMNS + v * LANES<T>);
      if (PRODUCTS && sizeof(T) == 8) argument = argument < lowest ? broadcast(lowest) : argument;
      Vec<T> root = reciprocal_root(argument);
      if (MASKED) {
        const int64_t lane = (rows.begin + a) - (columns.begin + tile.column + v * LANES<T>);
        if (lane >= 0 && lane < LANES<T>) root[lane] = 0;
      }
      const Radial<Vec<T>> pair = radial(root);
      u += pair.value * weight[v];
      if (GRADIENT) {
        const Vec<T> pull = pair.pull * weight[v] * own_weight;
        q += pull;
        store(tile.c + i * TILE_COLUMNS + v * LANES<T>, pull);
        if (MIRRORED) {
          u_columns[v] += pair.value * own_weight;
          q_columns[v] += pull;
        }
      }
    }
    store(tile.rows.u + a * LANES<T>, u);
    if (GRADIENT) store(tile.rows.q + a * LANES<T>, q);
  }
  if (GRADIENT && MIRRORED) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      T* const u = tile.columns.u + tile.column + v * LANES<T>;
      T* const q = tile.columns.q + tile.column + v * LANES<T>;
      store(u, load(u) + u_columns[v]);
      store(q, load(q) + q_columns[v]);
    }
  }
}

template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS>
static __attribute__((noinline)) void profile_of_tiles(const Cloud<T>& cloud, const Sums<T>& rows,
                                                       const Sums<T>& columns, int64_t row, int64_t row_end,
                                                       int64_t column, int64_t column_end, T* c) {
  const int64_t dim = cloud.points.dim;
  for (int64_t d = 0; d + DEPTH < dim; d += DEPTH) {  // all but the last coordinates, so that panels stay in the cache
    for (int64_t first = column; first < column_end; first += PANEL<T>) {
      for (int64_t a = row; a < row_end; a += ROWS) {
        make_scores<T, PRODUCTS>(rows.points.groups + a * dim + d * ROWS,
                                 columns.points.panels + first * dim + d * PANEL<T>, DEPTH, d == 0,
                                 c + (a - row) * TILE_COLUMNS + (first - column));
      }
    }
  }
  const int64_t done = (dim - 1) / DEPTH * DEPTH;
  for (int64_t first = column; first < column_end; first += PANEL<T>) {
    const T* const panel = columns.points.panels + first * dim + done * PANEL<T>;
    for (int64_t a = row; a < row_end; a += ROWS) {
      const Tile<T> tile{rows, columns, a, first, c + (a - row) * TILE_COLUMNS + (first - column)};
      make_scores<T, PRODUCTS>(rows.points.groups + a * dim + done * ROWS, panel, dim - done, done == 0, tile.c);
      const int64_t ahead = (columns.points.begin + first) - (rows.points.begin + a);  // of the rows
      if (!MIRRORED && ahead < ROWS && -ahead < PANEL<T>) {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, true>(tile, cloud.lowest);
      } else {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, false>(tile, cloud.lowest);
      }
    }
  }
}
