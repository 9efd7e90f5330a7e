// What the operators and the code paths (avx2.cpp, ...) share: the tasks, and the kernels for them; free of torch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/form.h"
#include "common/points.h"

namespace segma {

// How the scores |x_a - x_b|^2 are made: from products of centred points, or from their differences.
enum class Scores { products, differences };

// A cloud whose points are taken relative to `centre` and times `scale`, in the arithmetic of T.
template <class T>
struct Cloud {
  Points points;
  const T* centre;  // (D,)
  double scale;     // a power of two; 1 unless squares would overflow
  Scores scores;
  T lowest;                         // the least sum of two widths: no argument of a root is below
  const T* lift;                    // (M,) h/c, and |x|^2 added for products
  const T* weight;                  // (M,)
  const Polynomial<T>* polynomial;  // Q; null where it is 1
  const T* width;                   // (M,) 2 h/c; null where Q is 1
};

// Rows of results in two arrays, as the points are: `first_rows` in the first.
struct Rows {
  void *first, *second;
  int64_t first_rows;
  bool is_double;  // else float

  template <class T>
  T* at(int64_t row, int64_t dim) const {
    return row < first_rows ? static_cast<T*>(first) + row * dim : static_cast<T*>(second) + (row - first_rows) * dim;
  }
};

// Where results go. A block's first writer sets, the later ones add. Rows count from `first_row`.
struct Results {
  int64_t first_row;
  double* energy;  // one a block of rows: sum of w_a w_b times the value of a pair, without a = b
  double *du,
      *de;  // (n,) sums of w_b times the value of a pair, and of w_a w_b times pull - 2 bend; null for d^2 alone
  Rows dx;  // (n, D), `factor` times the sum of w_a w_b times `pull` and x_b - x_a
  double factor;
};

// Rows [row, row_end) against columns [column, column_end), packed already or null. A mirrored task also stands for the
// one with rows and columns exchanged.
struct Task {
  int64_t row, row_end, column, column_end;
  bool mirrored;
  void *rows, *columns;
};

// Runs before a task writes, so that the writers of a block take their turns; says who is the first.
struct Turn {
  void* state;
  void (*wait)(void* state);
  bool is_first;
};

// A strip of rows against a range of columns, whose memory all threads share. A mirrored strip's columns begin with its
// own rows, or after them; pairs of the strip with itself count once, the others also with rows and columns exchanged.
constexpr int64_t STRIP_ROWS = 384, STRIP_COLUMNS = 96;  // of a strip, of a tile of its columns
constexpr int64_t STRIP_DEPTH = 128;                     // coordinates whose gradients a thread makes at once

struct Strip {
  int64_t row, row_end, column, column_end;
  bool mirrored, is_new;     // is_new: nothing has been written yet to the gradients of the rows
  void *groups, *c;          // the packed rows; [tile][STRIP_ROWS][STRIP_COLUMNS] scores, then w_a w_b pull
  double* sums;              // [tile][3][STRIP_ROWS] as du, dq and de of Results, of the rows
  double *row_q, *column_q;  // dq: (STRIP_ROWS,) and one a column
};

template <class T>
struct StripKernels {
  size_t (*workspace)(int64_t dim);  // bytes, for all functions below and for norms of Kernels
  void (*pack)(const Cloud<T>&, const Strip&, int64_t d, int64_t d_end, void* workspace);
  double (*score)(const Cloud<T>&, const Strip&, int64_t tile, const Results&, void* workspace);  // gives the energy
  void (*differentiate)(const Cloud<T>&, const Strip&, const Results&, int64_t d, int64_t d_end, void* workspace);
};

// A block of `width` directions, a multiple of 16, of which the first `columns` count: the columns of a matrix
// (dim, width), or with signs (3, width) the fast transform of segma_fast/distance/slices/directions.py.
template <class T>
struct Projection {
  int64_t dim, width, columns;
  const T *matrix, *signs;  // one of them is null
  const T* steps;           // (width,): a wave's argument is k times this times the projection
};

constexpr int64_t SLICE_UNIT = 16;

// For rows and their projections (count, width); all but the rows are aligned to 64 bytes.
template <class T>
struct SliceKernels {
  void (*project)(const Projection<T>&, const T* rows, int64_t count, T* projected);
  void (*project_back)(const Projection<T>&, T* projected, int64_t count, T* rows);
  void (*add_waves)(const Projection<T>&, const T* projected, int64_t count, int64_t frequencies, double* sums,
                    T* workspace);  // of 2 x frequencies x SLICE_UNIT numbers
  void (*differentiate_waves)(const Projection<T>&, T* projected, int64_t count, int64_t frequencies, const T* factors);
};

// The functions of one code path for the arithmetic of T. A workspace is aligned to 64 bytes.
template <class T>
struct Kernels {
  int64_t least_block;                                           // 48 or 96 points: whole register tiles
  size_t (*workspace)(int64_t block, int64_t dim, bool packed);  // bytes, for all functions below
  size_t (*packed_bytes)(int64_t rows, int64_t dim);             // a multiple of 64
  // |x|^2 of the rows [begin, end), as the tasks will see the points.
  void (*norms)(const Cloud<T>&, int64_t begin, int64_t end, void* workspace, double* norms);
  void (*pack)(const Cloud<T>&, int64_t begin, int64_t end, void* workspace, void* packed);
  void (*run)(const Cloud<T>&, const Task&, const Results&, double* energy, const Turn&, void* workspace);
  StripKernels<T> strips;
  SliceKernels<T> slices;
};

// One dimension, in double: rows [begin, end) against all; u and its derivatives.
struct Line {
  const double *x, *h, *w;
  int64_t rows;
};
using LineKernel = void (*)(const Line&, int64_t begin, int64_t end, double* u, double* dx, double* dh);

}  // namespace segma
