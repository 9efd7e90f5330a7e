// A task: a block of rows against a block of columns, tile by tile; included inside the namespace of a code path.

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
      energy += profile_of_tiles<T, GRADIENT, MIRRORED, PRODUCTS, EXACT>(cloud, rows, columns, row, row_end, column,
                                                                         column_end, c, false);
      if (!GRADIENT) continue;
      add_product<T>(rows.gradient, rows.points.size, row, c, TILE_COLUMNS, 1, columns.points.x, columns.points.size,
                     column, width, row_end - row, column_end - column);
      if (!MIRRORED) continue;
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

// A slice of `count` coordinates from `d` on of consecutive rows, in `step` numbers a row; `first` counts from
// results.first_row.
template <class T>
struct Slice {
  const T *gradient, *x;
  const double* q;  // (rows,)
  int64_t first, rows, d, count, step;
};

template <class T, class Out>
SEGMA_INLINE void write_part(const Slice<T>& slice, int64_t dim, T factor, bool is_new, int64_t row, int64_t row_end,
                             Out* to) {
  const T *gradient = slice.gradient + row * slice.step, *x = slice.x + row * slice.step;
  for (int64_t a = row; a < row_end; ++a, gradient += slice.step, x += slice.step, to += dim) {
    const T q = T(slice.q[a]);
    if (slice.count == PANEL<T> && sizeof(T) == sizeof(Out)) {
#pragma GCC unroll 2
      for (int64_t i = 0; i < PANEL<T>; i += LANES<T>) {
        T* const vector = reinterpret_cast<T*>(to) + i;
        const Vec<T> value = factor * (load(gradient + i) - q * load(x + i));
        store_anywhere<T>(vector, is_new ? value : load_anywhere<T>(vector) + value);
      }
    } else {
      write_some(gradient, x, q, factor, slice.count, is_new, to);
    }
  }
}

template <class T>
SEGMA_INLINE void write_slice(const Slice<T>& slice, const Results& results, int64_t dim, bool is_new) {
  const int64_t first = slice.first, left = results.dx.first_rows - first;
  const int64_t middle = left < 0 ? 0 : smaller(slice.rows, left);
  const T factor = T(results.factor);
  for (int part = 0; part < 2; ++part) {  // what goes to the first array, and to the second
    const int64_t row = part == 0 ? 0 : middle, row_end = part == 0 ? middle : slice.rows;
    if (row == row_end) continue;
    if (results.dx.is_double) {
      write_part(slice, dim, factor, is_new, row, row_end, results.dx.at<double>(first + row, dim) + slice.d);
    } else {
      write_part(slice, dim, factor, is_new, row, row_end, results.dx.at<float>(first + row, dim) + slice.d);
    }
  }
}

// Sums over some rows go to the results; `first` as in Slice.
SEGMA_INLINE void write_sums(const double* du, const double* de, const Results& results, int64_t first, int64_t rows,
                             bool is_new) {
  for (int64_t a = 0; a < rows; ++a) {
    results.du[first + a] = du[a] + (is_new ? 0 : results.du[first + a]);
    results.de[first + a] = de[a] + (is_new ? 0 : results.de[first + a]);
  }
}

template <class T>
static void write(const Cloud<T>& cloud, const Results& results, const Sums<T>& sums, bool is_new) {
  const int64_t dim = cloud.points.dim, width = round_up(dim, LANES<T>), size = sums.points.size;
  const int64_t first = sums.points.begin - results.first_row, rows = sums.points.end - sums.points.begin;
  write_sums(sums.du, sums.de, results, first, rows, is_new);
  for (int64_t d = 0; d < dim; d += PANEL<T>) {
    const int64_t step = slice_width<T>(width, d);
    const Slice<T> slice{
        sums.gradient + d * size, sums.points.x + d * size, sums.dq, first, rows, d, smaller(step, dim - d), step};
    write_slice(slice, results, dim, is_new);
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
