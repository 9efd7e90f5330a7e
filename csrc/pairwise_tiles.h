// The tasks of pairwise_cpu.h on one instruction set; included, like pairwise_simd.h, inside the namespace of a path.
//
// A task takes a block of rows against a block of columns. Its points are centred, rounded to T and laid out for
// broadcasts (row-major) and for vector loads (panels of columns). Then tile by tile, in the first-level cache:
//
//     scores    S = -2 X_P X_Q^T            register tiles of ROWS x 2 vectors
//     profile   r = (l_a + l_b + S)^(-1/2), C = w_a w_b r^3, sums of w_b r, w_a r and C
//     gradient  G_P += C X_Q, and for a mirrored task G_Q += C^T X_P
//
// Sums over lanes and tiles are taken in double. At the end, in its turn, the task adds G_a - (sum of C) x_a.

constexpr int64_t ROWS = SEGMA_ISA == 2 ? 12 : 6;      // rows of a register tile: 24 or 12 accumulators
constexpr int64_t TILE_ROWS = 48, TILE_COLUMNS = 96;   // C stays in the first-level cache

template <class T>
constexpr int64_t PANEL = 2 * LANES<T>;

SEGMA_INLINE int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }
SEGMA_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- points

SEGMA_INLINE float from_half(uint16_t bits) {  // without branches, so that a loop of it is vectorised
  union { uint32_t u; float f; } magnitude = {static_cast<uint32_t>(bits & 0x7fff) << 13}, result;
  magnitude.f *= 0x1p112f;
  result.u = magnitude.u | ((bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u) | static_cast<uint32_t>(bits & 0x8000) << 16;
  return result.f;
}

SEGMA_INLINE float from_bfloat16(uint16_t bits) {
  union { uint32_t u; float f; } result = {static_cast<uint32_t>(bits) << 16};
  return result.f;
}

template <class T>
SEGMA_INLINE void read_row(const Cloud<T>& cloud, int64_t row, T* to) {
  const Points& points = cloud.points;
  const int64_t dim = points.dim, own = row < points.first_rows ? row : row - points.first_rows;
  const void* base = row < points.first_rows ? points.first : points.second;
  const T scale = T(cloud.scale);
  const T* const centre = cloud.centre;
  switch (points.kind) {
    case Kind::half: {
      const uint16_t* from = static_cast<const uint16_t*>(base) + own * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] = (T(from_half(from[d])) - centre[d]) * scale;
      return;
    }
    case Kind::bfloat16: {
      const uint16_t* from = static_cast<const uint16_t*>(base) + own * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] = (T(from_bfloat16(from[d])) - centre[d]) * scale;
      return;
    }
    case Kind::float32: {
      const float* from = static_cast<const float*>(base) + own * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] = (T(from[d]) - centre[d]) * scale;
      return;
    }
    case Kind::float64: {
      const double* from = static_cast<const double*>(base) + own * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] = T((from[d] - double(centre[d])) * double(scale));
      return;
    }
  }
}

template <class T>
static void norms(const Cloud<T>& cloud, int64_t begin, int64_t end, double* norms) {
  constexpr int64_t CHUNK = 8 * LANES<T>;
  const int64_t dim = cloud.points.dim, padded = round_up(dim, CHUNK);
  T* const row = static_cast<T*>(__builtin_alloca_with_align(padded * sizeof(T), 512));
  for (int64_t d = dim; d < padded; ++d) row[d] = 0;
  for (int64_t a = begin; a < end; ++a) {
    read_row(cloud, a, row);
    double sums[8] = {};
    for (int64_t d = 0; d < padded; d += 8) {
      for (int64_t i = 0; i < 8; ++i) sums[i] += double(row[d + i]) * double(row[d + i]);
    }
    norms[a] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
}

// ---- products

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

// ROWS x PANEL scores of a register tile. A function of its own, so that the sums stay in registers.
template <class T, bool PRODUCTS>
static __attribute__((noinline)) void make_scores(const T* a, const T* b, int64_t depth, T* scores) {
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
    for (int v = 0; v < 2; ++v) store(scores + i * PANEL<T> + v * LANES<T>, acc[i][v]);
  }
}

// G (rows x width) += C X, panel of the width by panel.
template <class T, int V>
SEGMA_INLINE void add_product_panel(T* g, int64_t width, const T* c, int64_t row_step, int64_t step, const T* x,
                                    int64_t rows, int64_t depth) {
  for (int64_t row = 0; row < rows; row += ROWS) {
    Vec<T> acc[ROWS][V];
#pragma GCC unroll 16
    for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) acc[i][v] = load(g + (row + i) * width + v * LANES<T>);
    }
    multiply<T, V>(c + row * row_step, row_step, step, x, width, depth, acc);
#pragma GCC unroll 16
    for (int64_t i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) store(g + (row + i) * width + v * LANES<T>, acc[i][v]);
    }
  }
}

template <class T>
static void add_product(T* g, int64_t width, const T* c, int64_t row_step, int64_t step, const T* x, int64_t rows,
                        int64_t depth) {
  int64_t d = 0;
  for (; d + PANEL<T> <= width; d += PANEL<T>) {
    add_product_panel<T, 2>(g + d, width, c, row_step, step, x + d, rows, depth);
  }
  if (d < width) add_product_panel<T, 1>(g + d, width, c, row_step, step, x + d, rows, depth);
}

// ---- a block of points and what is summed for it

template <class T>
struct Block {
  int64_t begin, end;
  int64_t row_size, column_size, size;  // end - begin, filled up to whole register tiles as rows, as columns, as both
  T *x, *groups, *panels;          // row-major; for each ROWS rows and each panel of columns, coordinate by coordinate
  T *lift, *weight;                // (size,)
  T *gradient, *u, *q;             // (size, width); sums over the tile at hand, (size,) or with a vector a row
  double *du, *dq;                 // (size,) sums over the task
};

template <class T>
SEGMA_INLINE void set_range(Block<T>& block, int64_t begin, int64_t end) {
  block.begin = begin;
  block.end = end;
  block.row_size = round_up(end - begin, ROWS);
  block.column_size = round_up(end - begin, PANEL<T>);
  block.size = round_up(end - begin, 3 * PANEL<T>);
}

template <class T>
static size_t block_numbers(int64_t block, int64_t dim) {
  const int64_t width = round_up(dim, LANES<T>);
  return block * (2 * width + 2 * dim + 2 + 2 * LANES<T>) + 2 * block * (sizeof(double) / sizeof(T)) + 16 * LANES<T>;
}

template <class T>
static size_t workspace(int64_t block, int64_t dim) {
  return sizeof(T) * (2 * block_numbers<T>(block, dim) + TILE_ROWS * TILE_COLUMNS);
}

template <class T>
static T* lay_out(Block<T>& block, T* at, int64_t dim) {
  const int64_t width = round_up(dim, LANES<T>), size = block.size;
  T** const parts[] = {&block.x, &block.gradient, &block.groups, &block.panels, &block.lift, &block.weight, &block.u, &block.q};
  const int64_t sizes[] = {size * width, size * width, size * dim,       size * dim, size,
                           size,         size * LANES<T>, size * LANES<T>};
  for (int i = 0; i < 8; ++i) {
    *parts[i] = at;
    at += round_up(sizes[i], LANES<T>);
  }
  block.du = reinterpret_cast<double*>(at);
  block.dq = block.du + round_up(size, LANES<double>);
  return reinterpret_cast<T*>(block.dq + round_up(size, LANES<double>));
}

template <class T>
static void read_block(const Cloud<T>& cloud, Block<T>& block) {
  const int64_t dim = cloud.points.dim, width = round_up(dim, LANES<T>), rows = block.end - block.begin;
  for (int64_t a = 0; a < block.size; ++a) {
    T* const row = block.x + a * width;
    if (a < rows) read_row(cloud, block.begin + a, row);
    for (int64_t d = a < rows ? dim : 0; d < width; ++d) row[d] = 0;
    block.lift[a] = a < rows ? cloud.lift[block.begin + a] : T(1);
    block.weight[a] = a < rows ? cloud.weight[block.begin + a] : T(0);
    block.du[a] = block.dq[a] = 0;
  }
}

// to[group][d][j] = scale * x[group * PART + j][d]: a register tile finds its operands one after the other.
template <class T, int64_t PART>
static __attribute__((noinline)) void interleave(const Block<T>& block, int64_t size, int64_t dim, T scale, T* to) {
  const int64_t width = round_up(dim, LANES<T>);
  for (int64_t first = 0; first < size; first += PART) {
    const T* const x = block.x + first * width;
    T* const part = to + first * dim;
    for (int64_t j = 0; j < PART; ++j) {
      for (int64_t d = 0; d < dim; ++d) part[d * PART + j] = scale * x[j * width + d];
    }
  }
}

// ---- the profile of a register tile

template <class T>
struct Tile {
  const Block<T>&rows, &columns;
  int64_t row, column;  // of the register tile, within the blocks
  T* c;                 // (TILE_ROWS, TILE_COLUMNS), at the register tile
};

// MASKED: the register tile may hold points with themselves, whose r is set to 0.
template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS, bool MASKED>
SEGMA_INLINE void profile_of_tile(const Tile<T>& tile, const T* scores, T lowest) {
  const Block<T>&rows = tile.rows, &columns = tile.columns;
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
    Vec<T> u = load(rows.u + a * LANES<T>), q{};
    if (GRADIENT) q = load(rows.q + a * LANES<T>);
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      Vec<T> argument = (own_lift + lift[v]) + load(scores + i * PANEL<T> + v * LANES<T>);
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
    store(rows.u + a * LANES<T>, u);
    if (GRADIENT) store(rows.q + a * LANES<T>, q);
  }
  if (GRADIENT && MIRRORED) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      T* const u = columns.u + tile.column + v * LANES<T>;
      T* const q = columns.q + tile.column + v * LANES<T>;
      store(u, load(u) + u_columns[v]);
      store(q, load(q) + q_columns[v]);
    }
  }
}

template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS>
static __attribute__((noinline)) void profile_of_tiles(const Cloud<T>& cloud, const Block<T>& rows, const Block<T>& columns, int64_t row,
                             int64_t row_end, int64_t column, int64_t column_end, T* c) {
  const int64_t dim = cloud.points.dim;
  alignas(SEGMA_BYTES) T scores[ROWS * PANEL<T>];
  for (int64_t first = column; first < column_end; first += PANEL<T>) {
    const T* const panel = columns.panels + first * dim;
    for (int64_t a = row; a < row_end; a += ROWS) {
      make_scores<T, PRODUCTS>(rows.groups + a * dim, panel, dim, scores);
      const Tile<T> tile{rows, columns, a, first, c + (a - row) * TILE_COLUMNS + (first - column)};
      const int64_t ahead = (columns.begin + first) - (rows.begin + a);  // of the first row, for the first column
      if (!MIRRORED && ahead < ROWS && -ahead < PANEL<T>) {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, true>(tile, scores, cloud.lowest);
      } else {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, false>(tile, scores, cloud.lowest);
      }
    }
  }
}

// ---- a task

template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS>
static __attribute__((noinline)) double add_tiles(const Cloud<T>& cloud, const Block<T>& rows, const Block<T>& columns, T* c) {
  const int64_t width = round_up(cloud.points.dim, LANES<T>);
  double energy = 0;
  for (int64_t row = 0; row < rows.row_size; row += TILE_ROWS) {
    const int64_t row_end = smaller(row + TILE_ROWS, rows.row_size);
    for (int64_t column = 0; column < columns.column_size; column += TILE_COLUMNS) {
      const int64_t column_end = smaller(column + TILE_COLUMNS, columns.column_size);
      for (int64_t i = row * LANES<T>; i < row_end * LANES<T>; ++i) rows.u[i] = rows.q[i] = 0;
      if (MIRRORED) {
        for (int64_t b = column; b < column_end; ++b) columns.u[b] = columns.q[b] = 0;
      }
      profile_of_tiles<T, GRADIENT, MIRRORED, PRODUCTS>(cloud, rows, columns, row, row_end, column, column_end, c);
      for (int64_t a = row; a < row_end; ++a) {
        const double u = total(load(rows.u + a * LANES<T>));
        energy += double(rows.weight[a]) * u;
        if (GRADIENT) {
          rows.du[a] += u;
          rows.dq[a] += total(load(rows.q + a * LANES<T>));
        }
      }
      if (!GRADIENT) continue;
      add_product<T>(rows.gradient + row * width, width, c, TILE_COLUMNS, 1, columns.x + column * width,
                     row_end - row, column_end - column);
      if (!MIRRORED) continue;
      for (int64_t b = column; b < column_end; ++b) {
        columns.du[b] += double(columns.u[b]);
        columns.dq[b] += double(columns.q[b]);
      }
      add_product<T>(columns.gradient + column * width, width, c, 1, TILE_COLUMNS, rows.x + row * width,
                     column_end - column, row_end - row);
    }
  }
  return energy;
}

template <class T, class Out>
SEGMA_INLINE void write_row(Out* to, const T* gradient, const T* x, T q, T factor, int64_t dim, bool is_new) {
  if (is_new) {
    for (int64_t d = 0; d < dim; ++d) to[d] = Out(factor * (gradient[d] - q * x[d]));
  } else {
    for (int64_t d = 0; d < dim; ++d) to[d] += Out(factor * (gradient[d] - q * x[d]));
  }
}

template <class T>
static void write_block(const Cloud<T>& cloud, const Results& results, const Block<T>& block, bool is_new) {
  const int64_t dim = cloud.points.dim, width = round_up(dim, LANES<T>);
  for (int64_t a = 0; a < block.end - block.begin; ++a) {
    const int64_t out = block.begin + a - results.first_row;
    results.du[out] = block.du[a] + (is_new ? 0 : results.du[out]);
    results.dq[out] = block.dq[a] + (is_new ? 0 : results.dq[out]);
    const T *gradient = block.gradient + a * width, *x = block.x + a * width, q = T(block.dq[a]);
    const T factor = T(results.factor);
    if (results.dx_is_double) {
      write_row(static_cast<double*>(results.dx) + out * dim, gradient, x, q, factor, dim, is_new);
    } else {
      write_row(static_cast<float*>(results.dx) + out * dim, gradient, x, q, factor, dim, is_new);
    }
  }
}

template <class T>
static void run(const Cloud<T>& cloud, const Task& task, const Results& results, double* energy, const Turn& turn,
                void* memory) {
  const int64_t dim = cloud.points.dim, width = round_up(dim, LANES<T>);
  Block<T> rows, columns;
  set_range(rows, task.row, task.row_end);
  set_range(columns, task.column, task.column_end);
  T* c = lay_out(columns, lay_out(rows, static_cast<T*>(memory), dim), dim);
  read_block(cloud, rows);
  read_block(cloud, columns);
  const bool gradient = results.du != nullptr, products = cloud.scores == Scores::products;
  interleave<T, ROWS>(rows, rows.row_size, dim, T(1), rows.groups);
  interleave<T, PANEL<T>>(columns, columns.column_size, dim, products ? T(-2) : T(1), columns.panels);
  if (gradient) {
    for (int64_t i = 0; i < rows.size * width; ++i) rows.gradient[i] = 0;
    if (task.mirrored) {
      for (int64_t i = 0; i < columns.size * width; ++i) columns.gradient[i] = 0;
    }
  }
  double sum;
  if (gradient && task.mirrored) {
    sum = products ? add_tiles<T, true, true, true>(cloud, rows, columns, c)
                   : add_tiles<T, true, true, false>(cloud, rows, columns, c);
  } else if (gradient) {
    sum = products ? add_tiles<T, true, false, true>(cloud, rows, columns, c)
                   : add_tiles<T, true, false, false>(cloud, rows, columns, c);
  } else if (task.mirrored) {
    sum = products ? add_tiles<T, false, true, true>(cloud, rows, columns, c)
                   : add_tiles<T, false, true, false>(cloud, rows, columns, c);
  } else {
    sum = products ? add_tiles<T, false, false, true>(cloud, rows, columns, c)
                   : add_tiles<T, false, false, false>(cloud, rows, columns, c);
  }
  turn.wait(turn.state);
  *energy = (task.mirrored ? 2 * sum : sum) + (turn.is_first ? 0 : *energy);
  if (!gradient) return;
  write_block(cloud, results, rows, turn.is_first);
  if (task.mirrored) write_block(cloud, results, columns, turn.is_first);
}

// ---- one dimension

struct LineSums {
  Vec<double> u, dx, dh;
};

SEGMA_INLINE void add_to_line(LineSums& sums, double x, double h, Vec<double> other, Vec<double> width,
                              Vec<double> weight) {
  const Vec<double> gap = x - other, widths = h + width, root = reciprocal_root(widths);
  Vec<double> t = gap * gap;
  const Vec<double> most = 1e4 * widths;  // exp(-1e4) is 0, and t may have overflowed
  t = t < most ? t : most;
  const Profile<Vec<double>> pair = gaussian(t, root, exponential(-t * (root * root)));
  sums.u += weight * pair.k;
  sums.dx += weight * (2.0 * gap * pair.k_t);
  sums.dh += weight * pair.k_h;
}

SEGMA_INLINE Vec<double> load_some(const double* from, int64_t count, double otherwise) {
  Vec<double> value = broadcast(otherwise);
  for (int64_t lane = 0; lane < count; ++lane) value[lane] = from[lane];
  return value;
}

static void line(const Line& points, int64_t begin, int64_t end, double* u, double* dx, double* dh) {
  for (int64_t a = begin; a < end; ++a) {
    const double x = points.x[a], h = points.h[a];
    LineSums sums{};
    for (int64_t b = 0; b < points.rows; b += LANES<double>) {
      const int64_t count = points.rows - b;
      if (count >= LANES<double>) {
        Vec<double> other, width, weight;
        __builtin_memcpy(&other, points.x + b, sizeof(other));
        __builtin_memcpy(&width, points.h + b, sizeof(width));
        __builtin_memcpy(&weight, points.w + b, sizeof(weight));
        add_to_line(sums, x, h, other, width, weight);
      } else {
        add_to_line(sums, x, h, load_some(points.x + b, count, x), load_some(points.h + b, count, h),
                    load_some(points.w + b, count, 0));
      }
    }
    u[a - begin] = total(sums.u);
    if (dx != nullptr) dx[a - begin] = total(sums.dx);
    if (dh != nullptr) dh[a - begin] = total(sums.dh);
  }
}
