// Points as the tiles want them, included inside the namespace of a code path: read in the caller's dtype, centred,
// rounded to T, and laid out for broadcasts and for vector loads.

SEGMA_INLINE float from_half(uint16_t bits) {  // without branches, so that a loop of it is vectorised
  union {
    uint32_t u;
    float f;
  } magnitude = {static_cast<uint32_t>(bits & 0x7fff) << 13}, result;
  magnitude.f *= 0x1p112f;
  result.u = magnitude.u | ((bits & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u) | static_cast<uint32_t>(bits & 0x8000) << 16;
  return result.f;
}

SEGMA_INLINE float from_bfloat16(uint16_t bits) {
  union {
    uint32_t u;
    float f;
  } result = {static_cast<uint32_t>(bits) << 16};
  return result.f;
}

template <class T, class From>
SEGMA_INLINE void centre_row(const From* from, const T* centre, double scale, int64_t count, T* to) {
  for (int64_t d = 0; d < count; ++d) to[d] = T(double(from[d]) * scale - double(centre[d]) * scale);
}

SEGMA_INLINE void centre_row(const float* from, const float* centre, double, int64_t count, float* to) {
  int64_t d = 0;
  for (; d + LANES<float> <= count; d += LANES<float>) {
    store_anywhere<float>(to + d, load_anywhere<float>(from + d) - load_anywhere<float>(centre + d));
  }
  for (; d < count; ++d) to[d] = from[d] - centre[d];
}

// `count` coordinates from `first` on of a row of the cloud, centred, and scaled where its kind can be so large.
template <class T>
SEGMA_INLINE void read_row(const Cloud<T>& cloud, int64_t row, int64_t first, int64_t count, T* to) {
  const Points& points = cloud.points;
  const bool in_first = row < points.first_rows;
  const int64_t begin = (in_first ? row : row - points.first_rows) * points.dim + first;
  const void* base = in_first ? points.first : points.second;
  const T* const centre = cloud.centre + first;
  switch (points.kind) {
    case Kind::half:
      for (int64_t d = 0; d < count; ++d)
        to[d] = T(from_half(static_cast<const uint16_t*>(base)[begin + d])) - centre[d];
      return;
    case Kind::bfloat16:
      for (int64_t d = 0; d < count; ++d) {
        to[d] = T(from_bfloat16(static_cast<const uint16_t*>(base)[begin + d])) - centre[d];
      }
      return;
    case Kind::float32:
      return centre_row(static_cast<const float*>(base) + begin, centre, cloud.scale, count, to);
    case Kind::float64:
      return centre_row(static_cast<const double*>(base) + begin, centre, cloud.scale, count, to);
  }
}

template <class T>
static void norms(const Cloud<T>& cloud, int64_t begin, int64_t end, void* workspace, double* norms) {
  T* const row = static_cast<T*>(workspace);
  const int64_t dim = cloud.points.dim, padded = round_up(dim, 8);
  for (int64_t d = dim; d < padded; ++d) row[d] = 0;
  for (int64_t a = begin; a < end; ++a) {
    read_row(cloud, a, 0, dim, row);
    double sums[8] = {};
    for (int64_t d = 0; d < padded; d += 8) {
      for (int64_t i = 0; i < 8; ++i) sums[i] += double(row[d + i]) * double(row[d + i]);
    }
    norms[a] = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
}

// A block of points. `x` lies in slices of PANEL coordinates, the last of which may be of LANES: all rows of a slice
// follow each other, since rows at a power of two apart would throw each other out of the cache.
template <class T>
struct Block {
  int64_t begin, end;
  int64_t row_size, column_size, size;  // end - begin, filled up to whole register tiles as rows, as columns, as both
  T* x;                                 // [slice][row][coordinate]
  T *groups, *panels;  // [ROWS rows][coordinate][row] and the same for PANEL columns, these times -2 for products
  T *lift, *weight;    // 1 and 0 for the rows that fill up
  T* width;            // 2 h/c, where the cloud has it
  T* past_end;
};

template <class T>
SEGMA_INLINE int64_t slice_width(int64_t width, int64_t d) {
  return smaller(PANEL<T>, width - d);
}

template <class T>
static Block<T> block_at(int64_t begin, int64_t end, int64_t dim, void* memory) {
  Block<T> block;
  block.begin = begin;
  block.end = end;
  block.row_size = round_up(end - begin, ROWS);
  block.column_size = round_up(end - begin, PANEL<T>);
  block.size = round_up(end - begin, 3 * PANEL<T>);
  block.x = static_cast<T*>(memory);
  block.groups = block.x + block.size * round_up(dim, LANES<T>);
  block.panels = block.groups + block.size * dim;
  block.lift = block.panels + block.size * dim;
  block.weight = block.lift + block.size;
  block.width = block.weight + block.size;
  block.past_end = block.width + block.size;
  return block;
}

template <class T>
static size_t packed_bytes(int64_t rows, int64_t dim) {
  return sizeof(T) * round_up(rows, 3 * PANEL<T>) * (round_up(dim, LANES<T>) + 2 * dim + 3);
}

// to[part][d][j] = scale * x[part * PART + j][d]: a register tile finds its operands one after the other. Whole vectors
// are written, in order, so that what goes beyond a part is overwritten by the next, or lies in what follows `to`.
template <class T, int64_t PART>
static void interleave(const Block<T>& block, int64_t size, int64_t dim, T scale, T* to) {
  constexpr int64_t PIECES = PART % LANES<T> == 0 ? 1 : (PART + LANES<T> - 1) / LANES<T>;  // at once
  const int64_t width = round_up(dim, LANES<T>);
  for (int64_t first = 0; first < size; first += PART) {
    for (int64_t d = 0; d < width; d += LANES<T>) {
      const int64_t slice = d / PANEL<T> * PANEL<T>, step = slice_width<T>(width, slice);
      const T* const x = block.x + slice * block.size + first * step + (d - slice);
      T* const part = to + first * dim + d * PART;
      const int64_t count = smaller(LANES<T>, dim - d);
      for (int64_t begin = 0; begin < PART; begin += PIECES * LANES<T>) {
        Vec<T> squares[PIECES][LANES<T>];
#pragma GCC unroll 2
        for (int64_t piece = 0; piece < PIECES; ++piece) {
#pragma GCC unroll 16
          for (int64_t i = 0; i < LANES<T>; ++i) {
            const int64_t j = piece * LANES<T> + i;
            squares[piece][i] = j < PART ? load(x + (begin + j) * step) : Vec<T>{};
          }
          transpose<T>(squares[piece]);
        }
#pragma GCC unroll 16
        for (int64_t i = 0; i < LANES<T>; ++i) {
          if (i >= count) break;
#pragma GCC unroll 2
          for (int64_t piece = 0; piece < PIECES; ++piece) {
            store_anywhere<T>(part + i * PART + begin + piece * LANES<T>, scale * squares[piece][i]);
          }
        }
      }
    }
  }
}

// Lifts, weights and widths of `size` rows from the block's first on, of which those after its last fill up.
template <class T>
SEGMA_INLINE void read_widths(const Cloud<T>& cloud, const Block<T>& block, int64_t size) {
  const int64_t rows = block.end - block.begin;
  for (int64_t a = 0; a < size; ++a) {
    block.lift[a] = a < rows ? cloud.lift[block.begin + a] : T(1);
    block.weight[a] = a < rows ? cloud.weight[block.begin + a] : T(0);
    block.width[a] = a < rows && cloud.width != nullptr ? cloud.width[block.begin + a] : T(0);
  }
}

// Fills a block; `row` is room for a row, filled up to whole vectors.
template <class T>
static void pack_block(const Cloud<T>& cloud, const Block<T>& block, T* row) {
  const int64_t dim = cloud.points.dim, width = round_up(dim, LANES<T>), rows = block.end - block.begin;
  for (int64_t d = 0; d < width; ++d) row[d] = 0;
  for (int64_t a = 0; a < block.size; ++a) {
    if (a < rows) read_row(cloud, block.begin + a, 0, dim, row);
    for (int64_t d = 0; a == rows && d < dim; ++d) row[d] = 0;
    for (int64_t d = 0; d < width; d += LANES<T>) {
      const int64_t slice = d / PANEL<T> * PANEL<T>;
      store(block.x + slice * block.size + a * slice_width<T>(width, slice) + (d - slice), load(row + d));
    }
  }
  read_widths(cloud, block, block.size);
  interleave<T, ROWS>(block, block.row_size, dim, T(1), block.groups);
  interleave<T, PANEL<T>>(block, block.column_size, dim, cloud.scores == Scores::products ? T(-2) : T(1), block.panels);
}

template <class T>
static void pack(const Cloud<T>& cloud, int64_t begin, int64_t end, void* workspace, void* packed) {
  pack_block(cloud, block_at<T>(begin, end, cloud.points.dim, packed), static_cast<T*>(workspace));
}
