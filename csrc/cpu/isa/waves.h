// Waves of projections, included inside the namespace of a code path: sums of cos(k a) and sin(k a) over rows, and
// their derivatives, for k = 1 ... `frequencies`. One sine and cosine a number; the harmonics are rotations of it.

template <class T>
struct Wave {
  Vec<T> cosine, sine;
};

// To the last bit or two, and 0 for |a| > pi.
template <class T>
SEGMA_INLINE Wave<T> wave(Vec<T> a) {
  constexpr bool SINGLE = sizeof(T) == 4;
  constexpr T SHIFT = SINGLE ? T(12582912.0) : T(6755399441055744.0);  // 1.5 * 2^23, 1.5 * 2^52
  const Vec<T> shifted = a * T(0.63661977236758134308) + SHIFT, n = shifted - SHIFT;
  constexpr double QUARTER = 1.57079632679489661923;  // pi/2, and what T does not hold of it
  constexpr double REST = SINGLE ? QUARTER - double(float(QUARTER)) : 6.123233995736766e-17;
  const Vec<T> r = (a - n * T(QUARTER)) - n * T(REST), s = r * r;
  constexpr int64_t TERMS = SINGLE ? 4 : 8;  // of Taylor's series, |r| <= pi/4
  double factor = 1;
  for (int64_t i = 2; i <= 2 * TERMS + 1; ++i) factor /= double(i);
  Vec<T> sine = broadcast(T(factor)), cosine{};
  for (int64_t i = 2 * TERMS; i > 0; i -= 2) {
    factor *= double(i + 1);
    cosine = cosine * -s + T(factor);
    factor *= double(i);
    sine = sine * -s + T(factor);
  }
  cosine = cosine * -s + T(1);
  sine = sine * r;
  const Lanes<T> quadrant = (Lanes<T>)shifted, one = Lanes<T>{} + 1;
  const Lanes<T> odd = -(quadrant & one), top = one << (sizeof(T) * 8 - 2);
  const Lanes<T> first = ((Lanes<T>)cosine & ~odd) | ((Lanes<T>)sine & odd);
  const Lanes<T> second = ((Lanes<T>)sine & ~odd) | ((Lanes<T>)cosine & odd);
  const Lanes<T> minus_first = ((quadrant + 1) & 2) * top, minus_second = (quadrant & 2) * top;
  const Lanes<T> far = (a > T(2 * QUARTER)) | (a < T(-2 * QUARTER));
  return {(Vec<T>)((first ^ minus_first) & ~far), (Vec<T>)((second ^ minus_second) & ~far)};
}

template <class T, int64_t ROWS_AT_ONCE>
SEGMA_INLINE void add_rows(const T* projected, int64_t width, Vec<T> step, int64_t frequencies, T* sums) {
  Wave<T> first[ROWS_AT_ONCE], now[ROWS_AT_ONCE];
  for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) now[i] = first[i] = wave<T>(load(projected + i * width) * step);
  for (int64_t k = 0; k < frequencies; ++k) {
    Vec<T> cosines = now[0].cosine, sines = now[0].sine;
    for (int64_t i = 1; i < ROWS_AT_ONCE; ++i) {
      cosines += now[i].cosine;
      sines += now[i].sine;
    }
    add_to(sums + 2 * k * LANES<T>, cosines);
    add_to(sums + (2 * k + 1) * LANES<T>, sines);
    for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) {
      const Wave<T> w = now[i];
      now[i].cosine = w.cosine * first[i].cosine - w.sine * first[i].sine;
      now[i].sine = w.sine * first[i].cosine + w.cosine * first[i].sine;
    }
  }
}

// Adds to sums (2, frequencies, width) the waves of projections (count, width).
template <class T>
static void add_waves(const Projection<T>& of, const T* projected, int64_t count, int64_t frequencies, double* sums,
                      T* part) {
  constexpr int64_t L = LANES<T>, SOME = 4;
  const int64_t width = of.width;
  for (int64_t c = 0; c < of.columns; c += L) {
    const Vec<T> step = load(of.steps + c);
    fill_with_zeros(part, 2 * frequencies * L);
    int64_t row = 0;
    for (; row + SOME <= count; row += SOME)
      add_rows<T, SOME>(projected + row * width + c, width, step, frequencies, part);
    for (; row < count; ++row) add_rows<T, 1>(projected + row * width + c, width, step, frequencies, part);
    for (int64_t k = 0; k < frequencies; ++k) {
      for (int64_t kind = 0; kind < 2; ++kind) {
        double* const to = sums + (kind * frequencies + k) * width + c;
        const T* const from = part + (2 * k + kind) * L;
        for (int64_t i = 0; i < L; ++i) to[i] += double(from[i]);
      }
    }
  }
}

template <class T, int64_t ROWS_AT_ONCE>
SEGMA_INLINE void differentiate_rows(T* projected, int64_t width, Vec<T> step, int64_t frequencies, const T* factors,
                                     int64_t stride) {
  Wave<T> first[ROWS_AT_ONCE];
  Vec<T> real[ROWS_AT_ONCE] = {}, imaginary[ROWS_AT_ONCE] = {};
  for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) first[i] = wave<T>(load(projected + i * width) * step);
  for (int64_t k = frequencies; k-- > 0;) {  // Horner's scheme in exp(i a)
    const Vec<T> a = load(factors + k * stride), b = load(factors + (frequencies + k) * stride);
    for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) {
      const Vec<T> x = real[i] + a, y = imaginary[i] + b, c = first[i].cosine, s = first[i].sine;
      real[i] = x * c - y * s;
      imaginary[i] = x * s + y * c;
    }
  }
  for (int64_t i = 0; i < ROWS_AT_ONCE; ++i) store(projected + i * width, real[i]);
}

// Replaces each projection by the sum over k of factors[0][k] cos(k a) - factors[1][k] sin(k a), a = step x projection;
// columns that are not among the first `columns` become 0.
template <class T>
static void differentiate_waves(const Projection<T>& of, T* projected, int64_t count, int64_t frequencies,
                                const T* factors) {
  constexpr int64_t L = LANES<T>, SOME = 4;
  const int64_t width = of.width, used = round_up(of.columns, L);
  for (int64_t c = 0; c < used; c += L) {
    const Vec<T> step = load(of.steps + c);
    int64_t row = 0;
    for (; row + SOME <= count; row += SOME) {
      differentiate_rows<T, SOME>(projected + row * width + c, width, step, frequencies, factors + c, width);
    }
    for (; row < count; ++row) {
      differentiate_rows<T, 1>(projected + row * width + c, width, step, frequencies, factors + c, width);
    }
  }
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t c = used; c < width; c += L) store(projected + row * width + c, Vec<T>{});
  }
}
