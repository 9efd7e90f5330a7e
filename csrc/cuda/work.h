// What the launcher hands to the CUDA kernels: the cloud of points, the workspace, and how the work is divided.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "common/profile.h"
#include "common/points.h"

namespace segma::cuda {

// The number of a point: pairs of 2^30 points would take years. What is multiplied by dimensions is 64 bits wide.
using Index = int32_t;
constexpr int64_t MOST_POINTS = int64_t(1) << 30;
constexpr int64_t MOST_DIMENSIONS = int64_t(1) << 22;  // so that a block's coordinates are counted in 32 bits

constexpr int TEAM = 128;  // threads that share 64 rows, a warpgroup
constexpr int TEAM_ROWS = 64;
constexpr int SPAN = 4096;       // sources of which sums stay in float32
constexpr int PREPARED = 64;     // points that one block prepares
constexpr int PREPARERS = 512;   // threads of that block
constexpr int AT_ONCE = 8;       // numbers that a thread loads before it stores one, where it waits for memory
constexpr int ALIGNMENT = 1024;  // of operands in shared memory
constexpr double LEAST = 1e-25;  // width of a pair, in squared units, whose r^3 float32 holds

// What belongs to this block's sample in an array that holds `count` elements of every sample, one sample after the
// other.
template <class T>
SEGMA_DEVICE T* of_sample(T* first, int64_t count) {
  return first + gpu::block_z() * count;
}

// Point a of a sample is row a of its codes (m, D) and means (K, D) together. The pointers are the first sample's.
struct Cloud {
  const void *z, *means;
  const double *widths, *weights;
  Index m, total;
  int dim;
  Kind kind;

  template <class Real>
  SEGMA_DEVICE Real at(Index row, int d) const {
    const void* points = row < m ? z : means;
    const int64_t place =
        (gpu::kept_block_z() * int64_t(row < m ? m : total - m) + (row < m ? row : row - m)) * dim + d;
    switch (kind) {
      case Kind::float64:
        return static_cast<Real>(static_cast<const double*>(points)[place]);
      case Kind::half:
        return static_cast<Real>(gpu::from_half(static_cast<const uint16_t*>(points)[place]));
      case Kind::bfloat16:
        return static_cast<Real>(
            gpu::bits_as<float>(static_cast<uint32_t>(static_cast<const uint16_t*>(points)[place]) << 16));
      default:
        return static_cast<Real>(static_cast<const float*>(points)[place]);
    }
  }
  SEGMA_DEVICE double h(Index row) const { return of_sample(widths, total)[row]; }
  SEGMA_DEVICE double w(Index row) const { return of_sample(weights, total)[row]; }
};

// fp16 coordinates of tiles of sources as both the copies and the matrix units like them: slabs of at most 64
// coordinates, a row of a slab 32, 64 or 128 bytes, its pieces of 16 bytes exchanged so that eight rows meet all banks
// of the memory.
struct Slabs {
  int width;  // coordinates, a power of two from 16 on
  int rows;   // of a tile

  SEGMA_DEVICE int slab_width() const { return width < 64 ? width : 64; }
  SEGMA_DEVICE int slab_bytes() const { return 2 * slab_width() * rows; }
  SEGMA_DEVICE int tile_bytes() const { return 2 * width * rows; }  // of one half of the numbers
  // Byte of a coordinate (or of the piece that begins with it) within one half of a tile.
  SEGMA_DEVICE int place(int row, int coordinate) const {
    const int wide = slab_width(), slab = coordinate / wide;
    const int offset = row * 2 * wide + coordinate % wide * 2;
    return slab * slab_bytes() + (offset ^ (((offset >> 7) & (wide / 8 - 1)) << 4));
  }
};

// Parts of the float32 workspace that `prepare` fills: l = h/c + |x|^2, weights, w s, 2 h/c and then four numbers and
// the far field of every block of points, the centre, the unit and the usual l.
struct Singles {
  float* start;  // of the first sample
  int64_t padded;
  int width, pulled;  // pulled: coordinates of the far field of a block, 0 without one

  SEGMA_BOTH int blocks() const { return static_cast<int>(padded / PREPARED); }
  // Of a sample: a multiple of 4, because copies begin at 16 bytes.
  SEGMA_BOTH int64_t size() const { return 4 * padded + (4 + pulled) * int64_t(blocks()) + (width + 2 + 3) / 4 * 4; }
  SEGMA_DEVICE float* lifted() const { return of_sample(start, size()); }
  SEGMA_DEVICE float* weights() const { return lifted() + padded; }
  SEGMA_DEVICE float* sigmas() const { return lifted() + 2 * padded; }
  SEGMA_DEVICE float* widths() const { return lifted() + 3 * padded; }
  SEGMA_DEVICE float* numbers(int which) const { return lifted() + 4 * padded + which * int64_t(blocks()); }
  SEGMA_DEVICE float* field() const { return numbers(4); }
  SEGMA_DEVICE float* centre() const { return field() + blocks() * int64_t(pulled); }
  SEGMA_DEVICE float& unit() const { return centre()[width]; }
  SEGMA_DEVICE float& far() const { return centre()[width + 1]; }
};

// The pieces of 16 bytes of a lane's row of a tile: one number for all of them, so that few registers hold addresses.
template <int WIDTH, int ROWS>
struct LanePieces {
  static constexpr int WIDE = WIDTH < 64 ? WIDTH : 64, PITCH = 2 * WIDE;
  uint32_t base;  // of the row, with the exchange of its pieces

  SEGMA_DEVICE LanePieces(uint32_t tile, int row)
      : base(tile + (row * PITCH ^ (row * PITCH >> 7 & (WIDE / 8 - 1)) << 4)) {}
  // Of the coordinate, a multiple of 8, in a row that comes a multiple of 8 rows later; `tile` is aligned.
  SEGMA_DEVICE uint32_t at(int coordinate, int later = 0) const {
    return (base ^ coordinate % WIDE * 2) + later * PITCH + coordinate / WIDE * PITCH * ROWS;
  }
};

// Pointers are those of the first sample; sizes are a sample's.
struct Work {
  Cloud cloud;
  Slabs slabs;
  uint16_t* halves;  // tiles of sources from `offset` on: high numbers, and the low ones with `low`
  Singles singles;
  double* widths;           // (padded): h/c as all pairs of a point see it
  double* parts;            // (blocks of rows) of the energy
  int* tickets;             // of the blocks of rows, and one for all
  double *u_sums, *q_sums;  // (splits, rows)
  void* forces;             // (splits, rows, D), Real
  void *dz, *dmeans;        // Real
  double *dh, *dw, *energy;
  Index start, stop, middle;            // rows; codes before `middle`
  Index offset, length, share;          // sources of this launch, and of each of its splits
  int splits, teams, stages, counters;  // counters: of the tickets
  float limit;                          // greatest c|x|^2/h that products resolve
  double wide, own;                     // 1/c, and Q of a point with itself
  Polynomial<float> float32;            // Q, of the kernels for the exact form
  Polynomial<double> float64;
  bool low, coarse, prepared, first, last, whole;

  SEGMA_DEVICE int64_t rows() const { return stop - start; }
  SEGMA_DEVICE uint16_t* tiles() const { return of_sample(halves, int64_t(length) * slabs.width * (low ? 2 : 1)); }
  SEGMA_DEVICE int* ticket(int block) const { return of_sample(tickets, counters) + block; }
  SEGMA_DEVICE double* part(int block) const { return of_sample(parts, counters - 1) + block; }
  SEGMA_DEVICE double* seen_width(Index row) const { return of_sample(widths, singles.padded) + row; }
  // Of a split and a row, the latter counted from `start` on.
  SEGMA_DEVICE int64_t place(int split, Index row) const { return (gpu::block_z() * splits + split) * rows() + row; }
  SEGMA_DEVICE const Polynomial<float>& polynomial(float) const { return float32; }
  SEGMA_DEVICE const Polynomial<double>& polynomial(double) const { return float64; }
};

// The rows of a block: either codes or means.
struct RowBlock {
  Index top;    // the first of them in the cloud
  Index local;  // and among the rows of this call
  int count;
  void* results;  // of the first row

  template <class Real>
  SEGMA_DEVICE static RowBlock of(const Work& work, int rows) {  // of this block, of so many rows
    const int block = gpu::block_x();
    const Index codes = (work.middle - work.start + rows - 1) / rows;
    const bool code = block < codes;
    const Index begin = code ? work.start : work.middle, end = code ? work.middle : work.stop;
    const Index top = begin + (code ? block : block - codes) * rows;
    Real* results = static_cast<Real*>(code ? work.dz : work.dmeans);
    results += (gpu::block_z() * int64_t(end - begin) + (top - begin)) * work.cloud.dim;
    return {top, top - work.start, end - top < rows ? end - top : rows, results};
  }
};

// The sources of a block: its split's share.
struct Sources {
  Index first, last;

  SEGMA_DEVICE static Sources of(const Work& work) {
    const Index first = work.offset + gpu::block_y() * work.share, end = work.offset + work.length;
    return {first, first + work.share < end ? first + work.share : end};
  }
};

// Where a block leaves what it found; `keep` adds to what earlier launches left.
template <class Real>
struct Found {
  double *u, *q;
  Real* forces;
  int dim;
  bool keep;

  SEGMA_DEVICE static Found of(const Work& work, const RowBlock& rows) {
    const int64_t place = work.place(gpu::block_y(), rows.local);
    Real* forces =
        work.splits > 1 ? static_cast<Real*>(work.forces) + place * work.cloud.dim : static_cast<Real*>(rows.results);
    return {work.u_sums + place, work.q_sums + place, forces, work.cloud.dim, !work.first};
  }
  SEGMA_DEVICE void add(int row, double u_row, double q_row, bool more) const {
    u[row] = more ? u[row] + u_row : u_row;
    q[row] = more ? q[row] + q_row : q_row;
  }
};

// A sum of many floats to nearly twice their digits, without double units, which most GPUs lack.
struct LongSum {
  float high = 0, low = 0;

  SEGMA_DEVICE void add(float x) {
    const float sum = high + x, back = sum - high;
    low += (high - (sum - back)) + (x - back);
    high = sum;
  }
  SEGMA_DEVICE double value() const { return static_cast<double>(high) + low; }
};

// A sum of many numbers in more digits than theirs, or in double.
template <class Real>
struct Total {
  LongSum sum;
  SEGMA_DEVICE void add(Real x) { sum.add(x); }
  SEGMA_DEVICE double value() const { return sum.value(); }
};
template <>
struct Total<double> {
  double sum = 0;
  SEGMA_DEVICE void add(double x) { sum += x; }
  SEGMA_DEVICE double value() const { return sum; }
};

template <class Real>
SEGMA_DEVICE Real sum_of_lanes(Real x, int lanes) {  // neighbours, a power of two of them
  for (int step = 1; step < lanes; step *= 2) x += gpu::shuffle_xor(x, step);
  return x;
}

}  // namespace segma::cuda
