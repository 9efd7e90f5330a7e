// Projections on a block of directions, included inside the namespace of a code path: by the columns of a matrix, or
// by the fast transform that segma_fast/distance/slices/directions.py states.

// Butterflies of lanes i and i ^ STRIDE.
template <class T, int64_t STRIDE>
SEGMA_INLINE Vec<T> within(Vec<T> x) {
  Lanes<T> other{};
  Vec<T> sign{};
  for (int64_t i = 0; i < LANES<T>; ++i) {
    other[i] = i ^ STRIDE;
    sign[i] = (i & STRIDE) != 0 ? T(-1) : T(1);
  }
  return x * sign + pick<T>(x, x, other);
}

template <class T>
SEGMA_INLINE Vec<T> within_vector(Vec<T> x) {
  x = within<T, 1>(x);
  if constexpr (LANES<T> > 2) x = within<T, 2>(x);
  if constexpr (LANES<T> > 4) x = within<T, 4>(x);
  if constexpr (LANES<T> > 8) x = within<T, 8>(x);
  return x;
}

// The Hadamard matrix of order `width`, a multiple of LANES, times x in place, whose vectors hold their own part.
template <class T>
SEGMA_INLINE void across_vectors(T* x, int64_t width) {
  constexpr int64_t L = LANES<T>;
  int64_t h = L;
  if (__builtin_ctzll(width / L) % 2 != 0) {  // an odd number of stages: one by itself, then two at a time
    for (int64_t i = 0; i < width; i += 2 * L) {
      const Vec<T> a = load(x + i), b = load(x + i + L);
      store(x + i, a + b);
      store(x + i + L, a - b);
    }
    h = 2 * L;
  }
  for (; h < width; h *= 4) {
    for (int64_t i = 0; i < width; i += 4 * h) {
      for (int64_t j = i; j < i + h; j += L) {
        const Vec<T> a = load(x + j), b = load(x + j + h), c = load(x + j + 2 * h), d = load(x + j + 3 * h);
        const Vec<T> ab = a + b, a_b = a - b, cd = c + d, c_d = c - d;
        store(x + j, ab + cd);
        store(x + j + h, a_b + c_d);
        store(x + j + 2 * h, ab - cd);
        store(x + j + 3 * h, a_b - c_d);
      }
    }
  }
}

// x of `count` coordinates, and zeros after them, times `signs`, times the Hadamard matrix.
template <class T>
SEGMA_INLINE void mix(const T* from, int64_t count, const T* signs, T* x, int64_t width) {
  constexpr int64_t L = LANES<T>;
  const int64_t whole = count / L * L;
  for (int64_t i = 0; i < whole; i += L) store(x + i, within_vector<T>(load_anywhere(from + i) * load(signs + i)));
  if (whole == width) return across_vectors(x, width);
  alignas(64) T rest[L] = {};
  for (int64_t i = whole; i < count; ++i) rest[i - whole] = from[i];
  store(x + whole, within_vector<T>(load(rest) * load(signs + whole)));
  for (int64_t i = whole + L; i < width; i += L) store(x + i, Vec<T>{});
  across_vectors(x, width);
}

template <class T, int64_t ROWS_AT_ONCE>
SEGMA_INLINE void multiply(const Projection<T>& to, const T* rows, T* projected) {
  const int64_t dim = to.dim, width = to.width;
  for (int64_t c = 0; c < width; c += LANES<T>) {
    Vec<T> sums[ROWS_AT_ONCE] = {};
    for (int64_t d = 0; d < dim; ++d) {
      const Vec<T> column = load(to.matrix + d * width + c);
      for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) sums[i] += column * rows[i * dim + d];
    }
    for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) store(projected + i * width + c, sums[i]);
  }
}

template <class T, int64_t ROWS_AT_ONCE>
SEGMA_INLINE void multiply_back(const Projection<T>& from, const T* projected, T* rows) {
  const int64_t dim = from.dim, width = from.width;
  for (int64_t d = 0; d < dim; ++d) {
    Vec<T> sums[ROWS_AT_ONCE] = {};
    for (int64_t c = 0; c < width; c += LANES<T>) {
      const Vec<T> column = load(from.matrix + d * width + c);
      for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) sums[i] += column * load(projected + i * width + c);
    }
    for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) rows[i * dim + d] += T(total(sums[i]));
  }
}

// Projections of `count` rows on the directions of a block: (count, width), unscaled.
template <class T>
static void project(const Projection<T>& to, const T* rows, int64_t count, T* projected) {
  const int64_t dim = to.dim, width = to.width;
  if (to.signs != nullptr) {
    for (int64_t row = 0; row < count; ++row) {
      T* const x = projected + row * width;
      mix(rows + row * dim, dim, to.signs, x, width);
      mix(x, width, to.signs + width, x, width);
      mix(x, width, to.signs + 2 * width, x, width);
    }
    return;
  }
  int64_t row = 0;
  for (; row + 4 <= count; row += 4) multiply<T, 4>(to, rows + row * dim, projected + row * width);
  for (; row < count; ++row) multiply<T, 1>(to, rows + row * dim, projected + row * width);
}

// The transpose: adds to `count` rows what `projected` gives them, and overwrites it.
template <class T>
static void project_back(const Projection<T>& from, T* projected, int64_t count, T* rows) {
  constexpr int64_t L = LANES<T>;
  const int64_t dim = from.dim, width = from.width;
  if (from.signs == nullptr) {
    int64_t row = 0;
    for (; row + 4 <= count; row += 4) multiply_back<T, 4>(from, projected + row * width, rows + row * dim);
    for (; row < count; ++row) multiply_back<T, 1>(from, projected + row * width, rows + row * dim);
    return;
  }
  for (int64_t row = 0; row < count; ++row) {
    T* const x = projected + row * width;
    for (int64_t round = 3; round-- > 0;) {
      for (int64_t i = 0; i < width; i += L) store(x + i, within_vector<T>(load(x + i)));
      across_vectors(x, width);
      const T* const signs = from.signs + round * width;
      for (int64_t i = 0; i < width; i += L) store(x + i, load(x + i) * load(signs + i));
    }
    for (int64_t d = 0; d < dim; ++d) rows[row * dim + d] += x[d];
  }
}
