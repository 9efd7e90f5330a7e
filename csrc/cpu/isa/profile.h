// From scores to the profile of a tile and its sums, included inside the namespace of a code path.

// A block and what is summed for it: over the tile at hand (a vector a row, a number a column), and over the task.
template <class T>
struct Sums {
  Block<T> points;
  T *u, *q, *e;          // (size, LANES): sums of w_b k, and of w_a w_b times pull and bend; no e where Q = 1
  double *du, *dq, *de;  // (size,): u, q and q - 2e over the task; the latter is dq itself where Q = 1
  T* gradient;           // as x: sums of w_a w_b pull x_b
};

template <class T>
struct Tile {
  const Sums<T>&rows, &columns;
  int64_t row, column;  // of the register tile, within the blocks
  T* c;                 // (TILE_ROWS, TILE_COLUMNS), at the register tile: the scores, then w_a w_b pull
};

// Q and its slope of N vectors at once, so that the steps of one do not wait for those before; the degree is > 0.
template <class T, int N, bool GRADIENT>
SEGMA_INLINE void add_powers(const Polynomial<T>& polynomial, const Vec<T> (&x)[N], Vec<T> (&q)[N],
                             Vec<T> (&steep)[N]) {
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    steep[n] = broadcast(polynomial.coefficients[polynomial.degree]);
    q[n] = steep[n] * x[n] + polynomial.coefficients[polynomial.degree - 1];
  }
  for (int k = polynomial.degree - 2; k >= 0; --k) {
    const T coefficient = polynomial.coefficients[k];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      if (GRADIENT) steep[n] = steep[n] * x[n] + q[n];
      q[n] = q[n] * x[n] + coefficient;
    }
  }
}

// MASKED: the register tile may hold points with themselves, whose r is set to 0.
template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS, bool EXACT, bool MASKED>
SEGMA_INLINE void profile_of_tile(const Tile<T>& tile, const Cloud<T>& cloud) {
  constexpr int GROUP = EXACT ? 2 : 1, N = 2 * GROUP;  // rows at once, and their vectors
  const Block<T>&rows = tile.rows.points, &columns = tile.columns.points;
  Vec<T> lift[2], weight[2], width[2] = {}, u_columns[2] = {}, q_columns[2] = {}, e_columns[2] = {};
#pragma GCC unroll 2
  for (int v = 0; v < 2; ++v) {
    lift[v] = load(columns.lift + tile.column + v * LANES<T>);
    weight[v] = load(columns.weight + tile.column + v * LANES<T>);
    if (EXACT) width[v] = load(columns.width + tile.column + v * LANES<T>);
  }
#pragma GCC unroll 16
  for (int64_t i = 0; i < ROWS; i += GROUP) {
    Vec<T> root[N], x[N], q[N], steep[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const int64_t a = tile.row + i + n / 2, v = n % 2;
      const Vec<T> score = load(tile.c + (i + n / 2) * TILE_COLUMNS + v * LANES<T>);
      Vec<T> argument = (rows.lift[a] + score) + lift[v];  // the widths first would be rounded alike for many pairs
      if (PRODUCTS && sizeof(T) == 8) argument = argument < cloud.lowest ? broadcast(cloud.lowest) : argument;
      root[n] = reciprocal_root(argument);
      if (MASKED) {
        const int64_t lane = (rows.begin + a) - (columns.begin + tile.column + v * LANES<T>);
        if (lane >= 0 && lane < LANES<T>) root[n][lane] = 0;
      }
      if (EXACT) {  // here too, one width after the other
        const Vec<T> square = root[n] * root[n];
        x[n] = rows.width[a] * square + (width[v] * square - T(1));
      }
    }
    if (EXACT) add_powers<T, N, GRADIENT>(*cloud.polynomial, x, q, steep);
#pragma GCC unroll 2
    for (int g = 0; g < GROUP; ++g) {
      const int64_t a = tile.row + i + g;
      const T own_weight = rows.weight[a];
      Vec<T> u = load(tile.rows.u + a * LANES<T>), mass{}, spread{};
      if (GRADIENT) mass = load(tile.rows.q + a * LANES<T>);
      if (GRADIENT && EXACT) spread = load(tile.rows.e + a * LANES<T>);
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v) {
        const int n = 2 * g + v;
        const Vec<T> cube = pull_of(root[n]) * weight[v] * own_weight;
        Radial<Vec<T>> pair{root[n], cube, cube};
        if (EXACT) pair = radial<Vec<T>>(root[n], cube, x[n], q[n], steep[n]);
        u += pair.value * weight[v];
        if (GRADIENT) {
          mass += pair.pull;
          store(tile.c + (i + g) * TILE_COLUMNS + v * LANES<T>, pair.pull);
          if (EXACT) spread += pair.bend;
          if (MIRRORED) {
            u_columns[v] += pair.value * own_weight;
            q_columns[v] += pair.pull;
            if (EXACT) e_columns[v] += pair.bend;
          }
        }
      }
      store(tile.rows.u + a * LANES<T>, u);
      if (GRADIENT) store(tile.rows.q + a * LANES<T>, mass);
      if (GRADIENT && EXACT) store(tile.rows.e + a * LANES<T>, spread);
    }
  }
  if (GRADIENT && MIRRORED) {
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const int64_t column = tile.column + v * LANES<T>;
      add_to(tile.columns.u + column, u_columns[v]);
      add_to(tile.columns.q + column, q_columns[v]);
      if (EXACT) add_to(tile.columns.e + column, e_columns[v]);
    }
  }
}

// Sums over the tile at hand begin with 0, also of the rows that fill up a vector of totals.
template <class T, bool GRADIENT, bool MIRRORED, bool EXACT>
SEGMA_INLINE void start_tile(const Sums<T>& rows, const Sums<T>& columns, int64_t row, int64_t row_end, int64_t column,
                             int64_t column_end) {
  const int64_t count = round_up(row_end - row, LANES<double>) * LANES<T>;
  fill_with_zeros(rows.u + row * LANES<T>, count);
  if (GRADIENT) fill_with_zeros(rows.q + row * LANES<T>, count);
  if (GRADIENT && EXACT) fill_with_zeros(rows.e + row * LANES<T>, count);
  if (!GRADIENT || !MIRRORED) return;
  fill_with_zeros(columns.u + column, column_end - column);
  fill_with_zeros(columns.q + column, column_end - column);
  if (EXACT) fill_with_zeros(columns.e + column, column_end - column);
}

SEGMA_INLINE void add_to_sums(double* to, Vec<double> value) {
  store_anywhere<double>(to, load_anywhere<double>(to) + value);
}

// Adds them to those of the task; gives the tile's energy, without its mirror image's.
template <class T, bool GRADIENT, bool MIRRORED, bool EXACT>
SEGMA_INLINE double finish_tile(const Sums<T>& rows, const Sums<T>& columns, int64_t row, int64_t row_end,
                                int64_t column, int64_t column_end) {
  Vec<double> energy{};
  for (int64_t a = row; a < row_end; a += LANES<double>) {
    const Vec<double> u = totals(rows.u + a * LANES<T>);
    energy += load_double(rows.points.weight + a) * u;
    if (!GRADIENT) continue;
    const Vec<double> q = totals(rows.q + a * LANES<T>);
    add_to_sums(rows.du + a, u);
    add_to_sums(rows.dq + a, q);
    if (EXACT) add_to_sums(rows.de + a, q - 2.0 * totals(rows.e + a * LANES<T>));
  }
  for (int64_t b = column; GRADIENT && MIRRORED && b < column_end; b += LANES<double>) {
    const Vec<double> q = load_double(columns.q + b);
    add_to_sums(columns.du + b, load_double(columns.u + b));
    add_to_sums(columns.dq + b, q);
    if (EXACT) add_to_sums(columns.de + b, q - 2.0 * load_double(columns.e + b));
  }
  return total(energy);
}

// A tile, made of the blocks' groups and panels unless `scored`: c then holds its scores. Gives the energy, without
// that of the mirror image. A tile that holds points with themselves is not mirrored.
template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS, bool EXACT>
static __attribute__((noinline)) double profile_of_tiles(const Cloud<T>& cloud, const Sums<T>& rows,
                                                         const Sums<T>& columns, int64_t row, int64_t row_end,
                                                         int64_t column, int64_t column_end, T* c, bool scored) {
  const int64_t dim = cloud.points.dim;
  start_tile<T, GRADIENT, MIRRORED, EXACT>(rows, columns, row, row_end, column, column_end);
  for (int64_t first = column; first < column_end; first += PANEL<T>) {
    for (int64_t a = row; a < row_end; a += ROWS) {
      const Tile<T> tile{rows, columns, a, first, c + (a - row) * TILE_COLUMNS + (first - column)};
      if (!scored) {
        make_scores<T, PRODUCTS>(rows.points.groups + a * dim, columns.points.panels + first * dim, dim, true, tile.c);
      }
      const int64_t ahead = (columns.points.begin + first) - (rows.points.begin + a);  // of the rows
      if (!MIRRORED && ahead < ROWS && -ahead < PANEL<T>) {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, EXACT, true>(tile, cloud);
      } else {
        profile_of_tile<T, GRADIENT, MIRRORED, PRODUCTS, EXACT, false>(tile, cloud);
      }
    }
  }
  return finish_tile<T, GRADIENT, MIRRORED, EXACT>(rows, columns, row, row_end, column, column_end);
}
