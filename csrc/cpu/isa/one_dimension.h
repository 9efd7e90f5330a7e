// One dimension, included inside the namespace of a code path: the exact profile of each row's point with all others.

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
        add_to_line(sums, x, h, load_anywhere(points.x + b), load_anywhere(points.h + b), load_anywhere(points.w + b));
      } else {
        add_to_line(sums, x, h, load_some(points.x + b, count, x), load_some(points.h + b, count, h),
                    load_some(points.w + b, count, 0));
      }
    }
    u[a - begin] = total(sums.u);
    dx[a - begin] = total(sums.dx);
    dh[a - begin] = total(sums.dh);
  }
}
