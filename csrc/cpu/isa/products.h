// The matrix products of a tile, included inside the namespace of a code path: ROWS rows by one or two vectors at a
// time.

// acc += A B for ROWS x `depth` numbers A, at steps (row_step, step), and `depth` x V vectors B.
template <class T, int V>
SEGMA_INLINE void multiply(const T* a, int64_t row_step, int64_t step, const T* b, int64_t b_step, int64_t depth,
                           Vec<T> (&acc)[ROWS][V]) {
  for (int64_t k = 0; k < depth; ++k) {
    Vec<T> column[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) column[v] = load(b + k * b_step + v * LANES<T>);
#pragma GCC unroll 16
    for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[i][v] += a[i * row_step + k * step] * column[v];
    }
  }
}

// The scores of a register tile, in TILE_COLUMNS steps from row to row, from `depth` coordinates; those of earlier ones
// are added unless `is_first`. A function of its own, so that the sums stay in registers.
template <class T, bool PRODUCTS>
static __attribute__((noinline)) void make_scores(const T* a, const T* b, int64_t depth, bool is_first, T* scores) {
  Vec<T> acc[ROWS][2] = {};
  if (PRODUCTS) {
    multiply<T, 2>(a, 1, ROWS, b, PANEL<T>, depth, acc);
  } else {
    for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 16
      for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
          const Vec<T> gap = a[k * ROWS + i] - load(b + k * PANEL<T> + v * LANES<T>);
          acc[i][v] += gap * gap;
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      T* const score = scores + i * TILE_COLUMNS + v * LANES<T>;
      store(score, is_first ? acc[i][v] : load(score) + acc[i][v]);
    }
  }
}

// G (rows x V vectors) += C X.
template <class T, int V>
SEGMA_INLINE void add_product_panel(T* g, const T* c, int64_t row_step, int64_t step, const T* x, int64_t rows,
                                    int64_t depth) {
  constexpr int64_t WIDTH = V * LANES<T>;
  for (int64_t row = 0; row < rows; row += ROWS) {
    Vec<T> acc[ROWS][V];
#pragma GCC unroll 16
    for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[i][v] = load(g + (row + i) * WIDTH + v * LANES<T>);
    }
    multiply<T, V>(c + row * row_step, row_step, step, x, WIDTH, depth, acc);
#pragma GCC unroll 16
    for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store(g + (row + i) * WIDTH + v * LANES<T>, acc[i][v]);
    }
  }
}

template <class T>
static __attribute__((noinline)) void add_product(T* g, int64_t g_size, int64_t row, const T* c, int64_t row_step,
                                                  int64_t step, const T* x, int64_t x_size, int64_t first,
                                                  int64_t width, int64_t rows, int64_t depth) {
  int64_t d = 0;
  for (; d + PANEL<T> <= width; d += PANEL<T>) {
    add_product_panel<T, 2>(g + d * g_size + row * PANEL<T>, c, row_step, step, x + d * x_size + first * PANEL<T>, rows,
                            depth);
  }
  if (d < width) {
    add_product_panel<T, 1>(g + d * g_size + row * LANES<T>, c, row_step, step, x + d * x_size + first * LANES<T>, rows,
                            depth);
  }
}
