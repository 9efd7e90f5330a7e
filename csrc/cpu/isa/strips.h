// Strips of points with many coordinates, included inside the namespace of a code path.
//
// A tile's gradients over all coordinates would stream through the caches for few products each. So a strip of rows
// keeps its C for all columns, in two steps with all threads: scores and profile, a tile of columns at a time; then the
// gradients of the strip and of its columns, a few coordinates at a time, which stay in the second-level cache.

// Where the rows of a strip lie in a tile of its columns: those before `self` stand for both orders, those from there
// on for themselves alone. In the square of the strip with itself the rows after the tile's own are left out.
struct RowsOfTile {
  int64_t column, column_end;  // of the cloud
  int64_t self, end;           // of the strip
  bool own;                    // the tile's columns are among the strip's rows
};

SEGMA_INLINE RowsOfTile rows_of_tile(const Strip& strip, int64_t tile) {
  const int64_t column = strip.column + tile * STRIP_COLUMNS, rows = strip.row_end - strip.row;
  const int64_t end = smaller(column + STRIP_COLUMNS, strip.column_end), before = column - strip.row;
  if (!strip.mirrored) return {column, end, 0, rows, false};
  if (column >= strip.row_end) return {column, end, rows, rows, false};
  return {column, end, before, smaller(rows, before + STRIP_COLUMNS), true};
}

template <class T>
SEGMA_INLINE T* pulls_of_tile(const Strip& strip, int64_t tile) {
  return static_cast<T*>(strip.c) + tile * STRIP_ROWS * TILE_COLUMNS;
}

template <class T>
SEGMA_INLINE double* sums_of_tile(const Strip& strip, int64_t tile) {
  return strip.sums + tile * 3 * STRIP_ROWS;
}

// Coordinates [d, d + count) of rows, in slices of PANEL with `size` rows each, filled up with zeros; `row` is room for
// one row of them.
template <class T>
SEGMA_INLINE void read_slices(const Cloud<T>& cloud, int64_t begin, int64_t end, int64_t d, int64_t count, int64_t size,
                              T* row, T* to) {
  const int64_t width = round_up(count, PANEL<T>);
  for (int64_t i = count; i < width; ++i) row[i] = 0;
  for (int64_t a = begin; a < end; ++a, to += PANEL<T>) {
    read_row(cloud, a, d, count, row);
    for (int64_t i = 0; i < width; i += LANES<T>)
      store(to + i / PANEL<T> * size * PANEL<T> + i % PANEL<T>, load(row + i));
  }
}

// Coordinates [d, d_end) of the strip's rows, for broadcasts.
template <class T>
static void pack_strip(const Cloud<T>& cloud, const Strip& strip, int64_t d, int64_t d_end, void* workspace) {
  T *const row = static_cast<T*>(workspace), *groups = static_cast<T*>(strip.groups);
  for (int64_t first = strip.row; first < strip.row_end; first += ROWS, groups += ROWS * cloud.points.dim) {
    for (int64_t j = 0; j < ROWS; ++j) {
      if (first + j < strip.row_end) {
        read_row(cloud, first + j, d, d_end - d, row);
      } else {
        fill_with_zeros(row, d_end - d);
      }
      for (int64_t i = d; i < d_end; ++i) groups[i * ROWS + j] = row[i - d];
    }
  }
}

// Panels of `count` coordinates from `d` on, DEPTH apart; `rows` is room for LANES rows of DEPTH.
template <class T>
static void pack_panels(const Cloud<T>& cloud, int64_t begin, int64_t end, int64_t d, int64_t count, T* rows, T* to) {
  const T scale = cloud.scores == Scores::products ? T(-2) : T(1);
  for (int64_t first = begin; first < end; first += PANEL<T>, to += PANEL<T> * DEPTH) {
    for (int64_t j = 0; j < PANEL<T>; j += LANES<T>) {
      for (int64_t i = 0; i < LANES<T>; ++i) {
        if (first + j + i < end) {
          read_row(cloud, first + j + i, d, count, rows + i * DEPTH);
        } else {
          fill_with_zeros(rows + i * DEPTH, count);
        }
      }
      for (int64_t k = 0; k < count; k += LANES<T>) {
        Vec<T> square[LANES<T>];
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES<T>; ++i) square[i] = load(rows + i * DEPTH + k);
        transpose<T>(square);
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES<T>; ++i) store(to + (k + i) * PANEL<T> + j, scale * square[i]);
      }
    }
  }
}

// Room for a task of either step, and for a row of all coordinates.
template <class T>
static size_t strip_workspace(int64_t dim) {
  const int64_t vectors = (STRIP_ROWS + STRIP_COLUMNS) * (3 * LANES<T> + 3);
  const int64_t panels = (STRIP_COLUMNS + LANES<T>)*DEPTH, slices = 2 * (STRIP_ROWS + STRIP_COLUMNS + 1) * STRIP_DEPTH;
  const int64_t most = vectors + panels > slices ? vectors + panels : slices;
  return sizeof(T) * (most > dim ? round_up(most, LANES<T>) : round_up(dim, LANES<T>)) +
         3 * sizeof(double) * STRIP_COLUMNS;
}

// Rows [begin, end) and room for what is summed over them in a tile; du and the rest are the caller's.
template <class T>
SEGMA_INLINE Sums<T> sums_at(const Cloud<T>& cloud, int64_t begin, int64_t end, int64_t size, T*& at) {
  Sums<T> sums{};
  sums.points.begin = begin;
  sums.points.end = end;
  sums.u = at;
  sums.q = sums.u + size * LANES<T>;
  sums.e = sums.q + size * LANES<T>;
  sums.points.lift = sums.e + size * LANES<T>;
  sums.points.weight = sums.points.lift + size;
  sums.points.width = sums.points.weight + size;
  at = sums.points.width + size;
  read_widths(cloud, sums.points, size);
  return sums;
}

// Scores and profile of a tile: C, the energy, and the sums of its rows and columns.
template <class T, bool GRADIENT, bool PRODUCTS, bool EXACT>
static double score_tile(const Cloud<T>& cloud, const Strip& strip, int64_t tile, const Results& results,
                         void* workspace) {
  const RowsOfTile place = rows_of_tile(strip, tile);
  const int64_t dim = cloud.points.dim, count = place.column_end - place.column;
  const int64_t row_end = round_up(place.end, ROWS), column_end = round_up(count, PANEL<T>);
  double* const own = static_cast<double*>(workspace);
  T* at = reinterpret_cast<T*>(own + 3 * STRIP_COLUMNS);
  Sums<T> rows = sums_at(cloud, strip.row, strip.row_end, STRIP_ROWS, at);
  Sums<T> columns = sums_at(cloud, place.column, place.column_end, STRIP_COLUMNS, at);
  T *const panels = at, *const room = panels + STRIP_COLUMNS * DEPTH, *const c = pulls_of_tile<T>(strip, tile);
  for (int64_t d = 0; d < dim; d += DEPTH) {
    const int64_t depth = smaller(DEPTH, dim - d);
    pack_panels(cloud, place.column, place.column_end, d, depth, room, panels);
    for (int64_t b = 0; b < column_end; b += PANEL<T>) {
      for (int64_t a = 0; a < row_end; a += ROWS) {
        make_scores<T, PRODUCTS>(static_cast<T*>(strip.groups) + a * dim + d * ROWS, panels + b * DEPTH, depth, d == 0,
                                 c + a * TILE_COLUMNS + b);
      }
    }
  }
  rows.du = sums_of_tile<T>(strip, tile);
  rows.dq = rows.du + STRIP_ROWS;
  rows.de = EXACT ? rows.dq + STRIP_ROWS : rows.dq;
  const int64_t offset = place.own ? place.self : 0;
  columns.du = place.own ? rows.du + offset : own;
  columns.dq = place.own ? rows.dq + offset : own + STRIP_COLUMNS;
  columns.de = !EXACT ? columns.dq : place.own ? rows.de + offset : own + 2 * STRIP_COLUMNS;
  __builtin_memset(rows.du, 0, 3 * STRIP_ROWS * sizeof(double));
  __builtin_memset(own, 0, 3 * STRIP_COLUMNS * sizeof(double));
  double energy = 0;
  if (place.self > 0) {
    energy += 2 * profile_of_tiles<T, GRADIENT, true, PRODUCTS, EXACT>(
                      cloud, rows, columns, 0, round_up(place.self, ROWS), 0, column_end, c, true);
  }
  if (place.self < place.end) {
    energy += profile_of_tiles<T, GRADIENT, false, PRODUCTS, EXACT>(cloud, rows, columns, place.self, row_end, 0,
                                                                    column_end, c + place.self * TILE_COLUMNS, true);
  }
  if (GRADIENT && place.self > 0 && !place.own) {
    write_sums(columns.du, columns.de, results, place.column - results.first_row, count, strip.row == 0);
    for (int64_t b = 0; b < count; ++b) strip.column_q[place.column - strip.column + b] = columns.dq[b];
  }
  return energy;
}

template <class T>
static double score_any_tile(const Cloud<T>& cloud, const Strip& strip, int64_t tile, const Results& results,
                             void* workspace) {
  using Score = double (*)(const Cloud<T>&, const Strip&, int64_t, const Results&, void*);
  static constexpr Score CHOICES[8] = {score_tile<T, false, false, false>, score_tile<T, false, true, false>,
                                       score_tile<T, true, false, false>,  score_tile<T, true, true, false>,
                                       score_tile<T, false, false, true>,  score_tile<T, false, true, true>,
                                       score_tile<T, true, false, true>,   score_tile<T, true, true, true>};
  const int choice = 4 * (cloud.polynomial != nullptr) + 2 * (results.du != nullptr);
  return CHOICES[choice + (cloud.scores == Scores::products)](cloud, strip, tile, results, workspace);
}

template <class T>
static void write_slices(const Results& results, const T* gradient, const T* x, const double* q, int64_t row,
                         int64_t rows, int64_t size, int64_t dim, int64_t d, int64_t d_end, bool is_new) {
  for (; d < d_end; d += PANEL<T>, gradient += size * PANEL<T>, x += size * PANEL<T>) {
    const int64_t count = smaller(PANEL<T>, d_end - d);
    write_slice(Slice<T>{gradient, x, q, row - results.first_row, rows, d, count, PANEL<T>}, results, dim, is_new);
  }
}

// Coordinates [d, d_end), at most STRIP_DEPTH, of the gradients of the strip's rows and of its columns.
template <class T>
static void differentiate_strip(const Cloud<T>& cloud, const Strip& strip, const Results& results, int64_t d,
                                int64_t d_end, void* workspace) {
  const int64_t dim = cloud.points.dim, width = round_up(d_end - d, PANEL<T>), rows = strip.row_end - strip.row;
  T* const row = static_cast<T*>(workspace);
  T *const xp = row + STRIP_DEPTH, *const gp = xp + STRIP_ROWS * width, *const xq = gp + STRIP_ROWS * width;
  T* const gq = xq + STRIP_COLUMNS * width;
  read_slices(cloud, strip.row, strip.row_end, d, d_end - d, STRIP_ROWS, row, xp);
  fill_with_zeros(gp, STRIP_ROWS * width);
  const int64_t tiles = (strip.column_end - strip.column + STRIP_COLUMNS - 1) / STRIP_COLUMNS;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const RowsOfTile place = rows_of_tile(strip, tile);
    const int64_t count = place.column_end - place.column;
    const T* const c = pulls_of_tile<T>(strip, tile);
    read_slices(cloud, place.column, place.column_end, d, d_end - d, STRIP_COLUMNS, row, xq);
    add_product<T>(gp, STRIP_ROWS, 0, c, TILE_COLUMNS, 1, xq, STRIP_COLUMNS, 0, width, place.end, count);
    if (place.self == 0) continue;
    if (place.own) {
      add_product<T>(gp, STRIP_ROWS, place.self, c, 1, TILE_COLUMNS, xp, STRIP_ROWS, 0, width, count, place.self);
    } else {
      fill_with_zeros(gq, STRIP_COLUMNS * width);
      add_product<T>(gq, STRIP_COLUMNS, 0, c, 1, TILE_COLUMNS, xp, STRIP_ROWS, 0, width, count, place.self);
      write_slices(results, gq, xq, strip.column_q + (place.column - strip.column), place.column, count, STRIP_COLUMNS,
                   dim, d, d_end, strip.row == 0);
    }
  }
  write_slices(results, gp, xp, strip.row_q, strip.row, rows, STRIP_ROWS, dim, d, d_end, strip.is_new);
}
