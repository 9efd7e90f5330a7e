// A task: a block of rows against a block of columns, tile by tile; included inside the namespace of a path.

// After `at`, which holds vectors of T and doubles.
template <class T>
static T* lay_out(Sums<T>& sums, int64_t dim, bool exact, T* at) {
  const int64_t size = sums.points.size;
  sums.gradient = at;
  sums.u = sums.gradient + size * round_up(dim, LANES<T>);
  sums.q = sums.u + size * LANES<T>;
  sums.e = sums.q + size * LANES<T>;
  sums.du = reinterpret_cast<double*>(sums.e + size * LANES<T>);
  sums.dq = sums.du + size;
  sums.de = exact ? sums.dq + size : sums.dq;
  return reinterpret_cast<T*>(sums.dq + 2 * size);
}

template <class T>
SEGMA_INLINE void start(const Sums<T>& sums, int64_t dim) {
  fill_with_zeros(sums.gradient, sums.points.size * round_up(dim, LANES<T>));
  fill_with_zeros(sums.du, sums.points.size);
  fill_with_zeros(sums.dq, 2 * sums.points.size);  // and de
}

template <class T>
static size_t workspace(int64_t block, int64_t dim, bool packed) {
  const int64_t size = round_up(block, 3 * PANEL<T>), width = round_up(dim, LANES<T>);
  const size_t sums = sizeof(T) * size * (width + 3 * LANES<T>)+3 * sizeof(double) * size;
  return 2 * (sums + (packed ? 0 : packed_bytes<T>(block, dim))) + (TILE_ROWS * TILE_COLUMNS + width) * sizeof(T);
}

template <class T, bool GRADIENT, bool MIRRORED, bool PRODUCTS, bool EXACT>
static double add_tiles(const Cloud<T>& cloud, const Sums<T>& rows, const Sums<T>& columns, T* c) {
  const int64_t width = round_up(cloud.points.dim, LANES<T>);
  const int64_t row_size = rows.points.row_size, column_size = columns.points.column_size;
  double energy = 0;
  for (int64_t row = 0; row < row_size; row += TILE_ROWS) {
    const int64_t row_end = smaller(row + TILE_ROWS, row_size);
    for (int64_t column = 0; column < column_size; column += TILE_COLUMNS) {
      const int64_t column_end = smaller(column + TILE_COLUMNS, column_size);
      fill_with_zeros(rows.u + row * LANES<T>, (row_end - row) * LANES<T>);
      if (GRADIENT) fill_with_zeros(rows.q + row * LANES<T>, (row_end - row) * LANES<T>);
      if (GRADIENT && EXACT) fill_with_zeros(rows.e + row * LANES<T>, (row_end - row) * LANES<T>);
      if (GRADIENT && MIRRORED) {
        fill_with_zeros(columns.u + column, column_end - column);
        fill_with_zeros(columns.q + column, column_end - column);
        if (EXACT) fill_with_zeros(columns.e + column, column_end - column);
      }
      profile_of_tiles<T, GRADIENT, MIRRORED, PRODUCTS, EXACT>(cloud, rows, columns, row, row_end, column, column_end,
                                                               c);
      for (int64_t a = row; a < row_end; ++a) {
        const double u = total(load(rows.u + a * LANES<T>));
        energy += double(rows.points.weight[a]) * u;
        if (GRADIENT) {
          rows.du[a] += u;
          rows.dq[a] += total(load(rows.q + a * LANES<T>));
          if (EXACT) rows.de[a] += total(load(rows.q + a * LANES<T>)) - 2 * total(load(rows.e + a * LANES<T>));
        }
      }
      if (!GRADIENT) continue;
      add_product<T>(rows.gradient, rows.points.size, row, c, TILE_COLUMNS, 1, columns.points.x, columns.points.size,
                     column, width, row_end - row, column_end - column);
      if (!MIRRORED) continue;
      for (int64_t b = column; b < column_end; ++b) {
        columns.du[b] += double(columns.u[b]);
        columns.dq[b] += double(columns.q[b]);
        if (EXACT) columns.de[b] += double(columns.q[b]) - 2 * double(columns.e[b]);
      }
      add_product<T>(columns.gradient, columns.points.size, column, c, 1, TILE_COLUMNS, rows.points.x, rows.points.size,
                     row, width, column_end - column, row_end - row);
    }
  }
  return energy;
}

// to += factor * (gradient - q x), or = for the first writer.
template <class T, class Out>
SEGMA_INLINE void write_some(const T* gradient, const T* x, T q, T factor, int64_t count, bool is_new, Out* to) {
  for (int64_t d = 0; d < count; ++d) {
    const Out value = Out(factor * (gradient[d] - q * x[d]));
    to[d] = is_new ? value : to[d] + value;
  }
}

// The slice of coordinates from `d` on of the rows [row, row_end); `to` is where the first goes.
template <class T, class Out>
SEGMA_INLINE void write_slice(const Sums<T>& sums, int64_t dim, int64_t d, T factor, bool is_new, int64_t row,
                              int64_t row_end, Out* to) {
  const int64_t step = slice_width<T>(round_up(dim, LANES<T>), d), count = smaller(step, dim - d);
  const int64_t start = d * sums.points.size + row * step;
  const T *gradient = sums.gradient + start, *x = sums.points.x + start;
  for (int64_t a = row; a < row_end; ++a, gradient += step, x += step, to += dim) {
    const T q = T(sums.dq[a]);
    if (count == PANEL<T> && sizeof(T) == sizeof(Out)) {
#pragma GCC unroll 2
      for (int64_t i = 0; i < PANEL<T>; i += LANES<T>) {
        T* const vector = reinterpret_cast<T*>(to) + i;
        const Vec<T> value = factor * (load(gradient + i) - q * load(x + i));
        store_anywhere<T>(vector, is_new ? value : load_anywhere<T>(vector) + value);
      }
    } else {
      write_some(gradient, x, q, factor, count, is_new, to);
    }
  }
}

template <class T>
static void write(const Cloud<T>& cloud, const Results& results, const Sums<T>& sums, bool is_new) {
  const int64_t dim = cloud.points.dim, first = sums.points.begin - results.first_row;
  for (int64_t a = 0; a < sums.points.end - sums.points.begin; ++a) {
    results.du[first + a] = sums.du[a] + (is_new ? 0 : results.du[first + a]);
    results.de[first + a] = sums.de[a] + (is_new ? 0 : results.de[first + a]);
  }
  const int64_t rows = sums.points.end - sums.points.begin;
  const int64_t middle = smaller(rows, results.dx.first_rows > first ? results.dx.first_rows - first : 0);
  const T factor = T(results.factor);
  for (int part = 0; part < 2; ++part) {  // of the block: what goes to the first array, and to the second
    const int64_t row = part == 0 ? 0 : middle, row_end = part == 0 ? middle : rows;
    for (int64_t d = 0; d < dim && row < row_end; d += PANEL<T>) {
      if (results.dx.is_double) {
        write_slice(sums, dim, d, factor, is_new, row, row_end, results.dx.at<double>(first + row, dim) + d);
      } else {
        write_slice(sums, dim, d, factor, is_new, row, row_end, results.dx.at<float>(first + row, dim) + d);
      }
    }
  }
}

template <class T>
static double add_all_tiles(const Cloud<T>& cloud, bool gradient, bool mirrored, const Sums<T>& rows,
                            const Sums<T>& columns, T* c) {
  using Add = double (*)(const Cloud<T>&, const Sums<T>&, const Sums<T>&, T*);
  static constexpr Add CHOICES[16] = {
      add_tiles<T, false, false, false, false>, add_tiles<T, false, false, true, false>,
      add_tiles<T, false, true, false, false>,  add_tiles<T, false, true, true, false>,
      add_tiles<T, true, false, false, false>,  add_tiles<T, true, false, true, false>,
      add_tiles<T, true, true, false, false>,   add_tiles<T, true, true, true, false>,
      add_tiles<T, false, false, false, true>,  add_tiles<T, false, false, true, true>,
      add_tiles<T, false, true, false, true>,   add_tiles<T, false, true, true, true>,
      add_tiles<T, true, false, false, true>,   add_tiles<T, true, false, true, true>,
      add_tiles<T, true, true, false, true>,    add_tiles<T, true, true, true, true>,
  };
  const int choice = 8 * (cloud.polynomial != nullptr) + 4 * gradient + 2 * mirrored;
  return CHOICES[choice + (cloud.scores == Scores::products)](cloud, rows, columns, c);
}

template <class T>
static void run(const Cloud<T>& cloud, const Task& task, const Results& results, double* energy, const Turn& turn,
                void* memory) {
  const int64_t dim = cloud.points.dim;
  const bool gradient = results.du != nullptr, packed = task.rows != nullptr;
  T* at = static_cast<T*>(memory);
  Sums<T> rows, columns;
  rows.points = block_at<T>(task.row, task.row_end, dim, packed ? task.rows : at);
  if (!packed) at = rows.points.past_end;
  columns.points = block_at<T>(task.column, task.column_end, dim, packed ? task.columns : at);
  if (!packed) at = columns.points.past_end;
  const bool exact = cloud.polynomial != nullptr;
  at = lay_out(columns, dim, exact, lay_out(rows, dim, exact, at));
  T* const c = at + round_up(dim, LANES<T>);
  if (!packed) {
    pack_block(cloud, rows.points, at);
    pack_block(cloud, columns.points, at);
  }
  if (gradient) start(rows, dim);
  if (gradient && task.mirrored) start(columns, dim);
  const double sum = add_all_tiles(cloud, gradient, task.mirrored, rows, columns, c);
  turn.wait(turn.state);
  *energy = (task.mirrored ? 2 * sum : sum) + (turn.is_first ? 0 : *energy);
  if (!gradient) return;
  write(cloud, results, rows, turn.is_first);
  if (task.mirrored) write(cloud, results, columns, turn.is_first);
}
