// Vectors of one code path. No include guard: each code path includes this inside a namespace of its own, with
// SEGMA_BYTES, the width of a vector, and SEGMA_ISA, 2 for AVX-512, 1 for AVX2 and 0 for what the compiler has.
// Nothing here may be a template of the standard library: the linker would merge it with other paths' copies.

template <class T>
struct Vector;
template <>
struct Vector<float> {
  typedef float type __attribute__((vector_size(SEGMA_BYTES)));
};
template <>
struct Vector<double> {
  typedef double type __attribute__((vector_size(SEGMA_BYTES)));
};
template <class T>
using Vec = typename Vector<T>::type;
typedef float HalfVec __attribute__((vector_size(SEGMA_BYTES / 2)));
typedef int64_t Bits __attribute__((vector_size(SEGMA_BYTES)));

template <class T>
constexpr int64_t LANES = SEGMA_BYTES / sizeof(T);

#define SEGMA_INLINE static inline __attribute__((always_inline))

template <class T>
SEGMA_INLINE Vec<T> load(const T* from) {
  return *reinterpret_cast<const Vec<T>*>(from);
}

template <class T>
SEGMA_INLINE void store(T* to, Vec<T> value) {
  *reinterpret_cast<Vec<T>*>(to) = value;
}

template <class T>
SEGMA_INLINE Vec<T> load_anywhere(const T* from) {
  Vec<T> value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

template <class T>
SEGMA_INLINE void store_anywhere(T* to, Vec<T> value) {
  __builtin_memcpy(to, &value, sizeof(value));
}

template <class T>
SEGMA_INLINE void add_to(T* to, Vec<T> value) {
  store(to, load(to) + value);
}

template <class T>
SEGMA_INLINE Vec<T> broadcast(T value) {
  return value - Vec<T>{};  // exact, also for -0 and NaN
}

template <class T>
using Lanes = decltype(Vec<T>{} < Vec<T>{});  // integers

// Lane i of the result is lane which[i] of a, or of b where that is LANES or more.
template <class T>
SEGMA_INLINE Vec<T> pick(Vec<T> a, Vec<T> b, Lanes<T> which) {
#ifdef __clang__
  Vec<T> result;
  for (int64_t i = 0; i < LANES<T>; ++i) result[i] = which[i] < LANES<T> ? a[which[i]] : b[which[i] - LANES<T>];
  return result;
#else
  return __builtin_shuffle(a, b, which);
#endif
}

// The square of LANES vectors, turned over.
template <class T>
SEGMA_INLINE void transpose(Vec<T> (&v)[LANES<T>]) {
#pragma GCC unroll 4
  for (int64_t step = 1; step < LANES<T>; step *= 2) {
    Lanes<T> low{}, high{};
    for (int64_t lane = 0; lane < LANES<T>; ++lane) {
      low[lane] = lane & step ? LANES<T> + lane - step : lane;
      high[lane] = lane & step ? LANES<T> + lane : lane + step;
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < LANES<T>; ++i) {
      if (i & step) continue;
      const Vec<T> a = v[i], b = v[i + step];
      v[i] = pick<T>(a, b, low);
      v[i + step] = pick<T>(a, b, high);
    }
  }
}

SEGMA_INLINE double total(Vec<double> v) {
  double sum = 0;
  for (int64_t lane = 0; lane < LANES<double>; ++lane) sum += v[lane];
  return sum;
}

// A vector in as many sums as there are doubles in one.
SEGMA_INLINE Vec<double> in_double(Vec<double> v) {
  return v;
}

SEGMA_INLINE Vec<double> in_double(Vec<float> v) {
  HalfVec halves[2];
  __builtin_memcpy(halves, &v, sizeof(v));
  return __builtin_convertvector(halves[0], Vec<double>) + __builtin_convertvector(halves[1], Vec<double>);
}

SEGMA_INLINE double total(Vec<float> v) {
  return total(in_double(v));
}

// Consecutive numbers as doubles, from anywhere.
SEGMA_INLINE Vec<double> load_double(const double* from) {
  return load_anywhere<double>(from);
}

SEGMA_INLINE Vec<double> load_double(const float* from) {
  HalfVec half;
  __builtin_memcpy(&half, from, sizeof(half));
  return __builtin_convertvector(half, Vec<double>);
}

// The totals of consecutive vectors, as many as there are doubles in one.
template <class T>
SEGMA_INLINE Vec<double> totals(const T* from) {
  Vec<double> sums[LANES<double>];
#pragma GCC unroll 8
  for (int64_t i = 0; i < LANES<double>; ++i) sums[i] = in_double(load(from + i * LANES<T>));
  transpose<double>(sums);
  Vec<double> sum = sums[0];
#pragma GCC unroll 8
  for (int64_t i = 1; i < LANES<double>; ++i) sum += sums[i];
  return sum;
}

// a^(-1/2) to the last bit or two. An estimate with relative error e is refined by 1 + d/2 + 3d^2/8 for
// d = 1 - a r^2: the error left is of the order e^3, below the rounding, and so without a bias of its own.
template <class T>
SEGMA_INLINE Vec<T> refine(Vec<T> a, Vec<T> r) {
  const Vec<T> d = T(1) - a * (r * r);
  return r + (r * d) * (d * T(0.375) + T(0.5));
}

#if SEGMA_ISA == 2
SEGMA_INLINE Vec<float> reciprocal_root(Vec<float> a) {
  return refine<float>(a, (Vec<float>)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)a));
}
SEGMA_INLINE Vec<double> reciprocal_root(Vec<double> a) {
  const Vec<double> r = refine<double>(a, (Vec<double>)_mm512_maskz_rsqrt14_pd(0xff, (__m512d)a));
  return refine<double>(a, r);
}
#elif SEGMA_ISA == 1
SEGMA_INLINE Vec<float> reciprocal_root(Vec<float> a) {
  return refine<float>(a, (Vec<float>)_mm256_rsqrt_ps((__m256)a));
}
SEGMA_INLINE Vec<double> reciprocal_root(Vec<double> a) {
  return 1.0 / (Vec<double>)_mm256_sqrt_pd((__m256d)a);
}
#elif defined(__SSE2__) && SEGMA_BYTES == 16
SEGMA_INLINE Vec<float> reciprocal_root(Vec<float> a) {
  return refine<float>(a, (Vec<float>)_mm_rsqrt_ps((__m128)a));
}
SEGMA_INLINE Vec<double> reciprocal_root(Vec<double> a) {
  return 1.0 / (Vec<double>)_mm_sqrt_pd((__m128d)a);
}
#elif defined(__aarch64__) && SEGMA_BYTES == 16
SEGMA_INLINE Vec<float> reciprocal_root(Vec<float> a) {
  const Vec<float> r = refine<float>(a, (Vec<float>)vrsqrteq_f32((float32x4_t)a));
  return refine<float>(a, r);
}
SEGMA_INLINE Vec<double> reciprocal_root(Vec<double> a) {
  return 1.0 / (Vec<double>)vsqrtq_f64((float64x2_t)a);
}
#else
template <class V>
SEGMA_INLINE V reciprocal_root(V a) {
  for (size_t lane = 0; lane < sizeof(V) / sizeof(a[0]); ++lane) a[lane] = 1 / __builtin_sqrt(a[lane]);
  return a;
}
#endif

// exp(x) for x <= 0; 0 below -708. 2^n times a polynomial in what is left, |r| <= ln(2)/2.
SEGMA_INLINE Vec<double> exponential(Vec<double> x) {
  constexpr double SHIFT = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer in the low bits
  const Bits vanishing = x < -708.0;
  x = vanishing ? broadcast(-708.0) : x;
  const Vec<double> shifted = x * 1.4426950408889634074 + SHIFT, n = shifted - SHIFT;
  const Vec<double> r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  Vec<double> p = broadcast(1.0 / 6227020800.0);
  constexpr double INVERSE_FACTORIALS[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
      1.0 / 120,       1.0 / 24,       1.0 / 6,       0.5,          1.0,         1.0};
  for (double coefficient : INVERSE_FACTORIALS) p = p * r + coefficient;
  const Vec<double> power = (Vec<double>)((Bits)p + ((Bits)shifted << 52));
  return vanishing ? Vec<double>{} : power;
}
