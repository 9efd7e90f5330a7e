// The operators of slices on the CPU: sums of waves of projections over the rows of each sample, and their derivative.
// segma_fast/distance/slices/operators.py states them. Rows are taken in tiles that stay in the second-level cache, so
// neither the projections nor their waves are ever in memory. Sums have one order, whatever the number of threads.
#include <atomic>
#include <cmath>
#include <vector>

#include "common/operators.h"
#include "common/tensors.h"
#include "cpu/code_path.h"
#include "cpu/threads.h"

namespace segma {
namespace {

constexpr int64_t TILE = 1 << 16;         // projections of a tile
constexpr int64_t LEAST_TILES = 16;       // of all rows
constexpr int64_t MOST_SUMS = 1 << 21;    // numbers in the sums of all tasks, unless one a sample and block has more
constexpr double CYCLES_PER_WAVE = 0.25;  // of a projection, roughly

int64_t round_up(int64_t size, int64_t unit) {
  return (size + unit - 1) / unit * unit;
}

template <class T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
Memory zeros(int64_t count) {
  Memory memory(count * sizeof(T));
  std::fill_n(reinterpret_cast<T*>(memory.start()), count, T(0));
  return memory;
}

// The arguments of both operators, laid out for one arithmetic.
template <class T>
class Slices {
 public:
  Slices(const SliceKernels<T>& kernels, const Tensor& z, const Tensor& directions, const Tensor& steps, int64_t count)
      : kernels_(kernels), z_(data<T>(z)), samples_(z.size(0)), rows_(z.size(1)), dim_(z.size(2)), count_(count) {
    slices_ = steps.size(1);
    is_fast_ = directions.dim() == 3;
    width_ = is_fast_ ? directions.size(2) : std::min<int64_t>(round_up(slices_, SLICE_UNIT), 256);
    blocks_ = (slices_ + width_ - 1) / width_;
    tile_ = std::max<int64_t>(16, std::min<int64_t>(256, TILE / width_));
    const double* const given = data<double>(steps);
    steps_ = keep(samples_ * blocks_ * width_);
    for (int64_t b = 0; b < samples_; ++b) {
      for (int64_t r = 0; r < slices_; ++r) steps_[b * blocks_ * width_ + r] = T(given[b * slices_ + r]);
    }
    if (is_fast_) {
      directions_ = keep(blocks_ * 3 * width_);
      std::copy_n(data<T>(directions), blocks_ * 3 * width_, directions_);
    } else {
      directions_ = keep(blocks_ * dim_ * width_);
      for (int64_t d = 0; d < dim_; ++d) {
        for (int64_t r = 0; r < slices_; ++r) {
          directions_[(r / width_ * dim_ + d) * width_ + r % width_] = data<T>(directions)[d * slices_ + r];
        }
      }
    }
  }

  void waves(double* result) const {
    const int64_t size = 2 * count_ * width_, pieces = samples_ * blocks_;
    if (pieces == 0) return;
    int64_t chunks = std::min<int64_t>(64 / pieces, std::min<int64_t>(MOST_SUMS / (size * pieces), rows_ / 256));
    chunks = std::max<int64_t>(1, chunks);
    const int64_t share = round_up((rows_ + chunks - 1) / chunks, 4);
    std::vector<double> sums(pieces * chunks * size);
    std::atomic<int64_t> next{0};
    in_parallel(cycles(), [&] {
      const Memory memory = Memory::of_this_thread<Use::task>((tile_ * width_ + 2 * count_ * SLICE_UNIT) * sizeof(T));
      T* const projected = reinterpret_cast<T*>(memory.start());
      for (int64_t task; (task = next.fetch_add(1)) < pieces * chunks;) {
        const int64_t piece = task / chunks, sample = piece / blocks_, begin = task % chunks * share;
        const Projection<T> to = projection(sample, piece % blocks_);
        for (int64_t row = begin; row < std::min(begin + share, rows_); row += tile_) {
          const int64_t some = std::min(tile_, std::min(begin + share, rows_) - row);
          kernels_.project(to, z_ + (sample * rows_ + row) * dim_, some, projected);
          kernels_.add_waves(to, projected, some, count_, &sums[task * size], projected + tile_ * width_);
        }
      }
    });
    for (int64_t piece = 0; piece < pieces; ++piece) {
      for (int64_t i = 0; i < 2 * count_; ++i) {
        double* const to = result + (piece / blocks_ * 2 * count_ + i) * slices_ + piece % blocks_ * width_;
        const int64_t columns = projection(0, piece % blocks_).columns;
        std::fill_n(to, columns, 0.0);
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const double* const from = &sums[(piece * chunks + chunk) * size + i * width_];
          for (int64_t r = 0; r < columns; ++r) to[r] += from[r];
        }
      }
    }
  }

  // `cotangent` is that of the sums; dz has the shape of z.
  void slopes(const double* cotangent, void* result) const {
    T* const dz = static_cast<T*>(result);
    const Memory memory = zeros<T>(samples_ * blocks_ * 2 * count_ * width_);
    T* const factors = reinterpret_cast<T*>(memory.start());
    for (int64_t sample = 0; sample < samples_; ++sample) {
      for (int64_t i = 0; i < 2 * count_; ++i) {  // d cos(k a) = -k sin(k a) da, d sin(k a) = k cos(k a) da
        const bool of_sine = i < count_;
        const int64_t k = i % count_;
        const double* const from = cotangent + (sample * 2 * count_ + (of_sine ? count_ : 0) + k) * slices_;
        for (int64_t r = 0; r < slices_; ++r) {
          const int64_t block = r / width_, place = sample * blocks_ * width_ + r;
          factors[((sample * blocks_ + block) * 2 * count_ + i) * width_ + r % width_] =
              T(double(k + 1) * from[r] * double(steps_[place]));
        }
      }
    }
    // smaller tiles where there are few rows, so that all threads have some
    const int64_t tile = std::min(tile_, std::max<int64_t>(16, round_up(samples_ * rows_ / LEAST_TILES, 4)));
    const int64_t tiles = (rows_ + tile - 1) / tile;
    std::atomic<int64_t> next{0};
    in_parallel(cycles(), [&] {
      const Memory workspace = Memory::of_this_thread<Use::task>(tile * width_ * sizeof(T));
      T* const projected = reinterpret_cast<T*>(workspace.start());
      for (int64_t task; (task = next.fetch_add(1)) < samples_ * tiles;) {
        const int64_t sample = task / tiles, row = task % tiles * tile, some = std::min(tile, rows_ - row);
        const int64_t place = (sample * rows_ + row) * dim_;
        std::fill_n(dz + place, some * dim_, T(0));
        for (int64_t block = 0; block < blocks_; ++block) {
          const Projection<T> to = projection(sample, block);
          kernels_.project(to, z_ + place, some, projected);
          kernels_.differentiate_waves(to, projected, some, count_,
                                       factors + (sample * blocks_ + block) * 2 * count_ * width_);
          kernels_.project_back(to, projected, some, dz + place);
        }
      }
    });
  }

 private:
  T* keep(int64_t count) {
    kept_.push_back(zeros<T>(count));
    return reinterpret_cast<T*>(kept_.back().start());
  }

  double cycles() const {
    return double(samples_) * double(rows_) * double(slices_) * CYCLES_PER_WAVE * double(count_ + 10);
  }

  Projection<T> projection(int64_t sample, int64_t block) const {
    const int64_t columns = std::min(width_, slices_ - block * width_);
    const T* const part = directions_ + block * (is_fast_ ? 3 : dim_) * width_;
    const T* const steps = steps_ + (sample * blocks_ + block) * width_;
    return {dim_, width_, columns, is_fast_ ? nullptr : part, is_fast_ ? part : nullptr, steps};
  }

  const SliceKernels<T>& kernels_;
  const T* z_;
  int64_t samples_, rows_, dim_, count_, slices_, width_, blocks_, tile_;
  bool is_fast_;
  std::vector<Memory> kept_;  // of the two arrays
  T *steps_, *directions_;
};

void check(const Tensor& z, const Tensor& directions, const Tensor& steps, int64_t count) {
  STD_TORCH_CHECK(z.dim() == 3 && z.size(2) > 0 && steps.dim() == 2 && steps.size(0) == z.size(0) && steps.size(1) > 0,
                  "z and steps must have shapes (B, N, D) and (B, R)");
  STD_TORCH_CHECK(z.scalar_type() == ScalarType::Float || z.scalar_type() == ScalarType::Double,
                  "z must be float32 or float64");
  STD_TORCH_CHECK(directions.scalar_type() == z.scalar_type() && steps.scalar_type() == ScalarType::Double,
                  "directions must have the dtype of z, and steps must be float64");
  STD_TORCH_CHECK(count > 0, "frequencies must be at least 1, got ", count);
  const int64_t width = directions.size(directions.dim() - 1);
  const bool fast = directions.dim() == 3;
  STD_TORCH_CHECK(fast ? directions.size(1) == 3 && width % SLICE_UNIT == 0 && (width & (width - 1)) == 0 &&
                             z.size(2) <= width && directions.size(0) * width >= steps.size(1)
                       : directions.dim() == 2 && directions.size(0) == z.size(2) && width == steps.size(1),
                  "directions must be a matrix (D, R), or signs (blocks, 3, P) with D <= P = 2^p >= ", SLICE_UNIT);
  for (const Tensor* tensor : {&z, &directions, &steps}) {
    STD_TORCH_CHECK(tensor->is_cpu() && tensor->is_contiguous(),
                    "z, directions and steps must be contiguous CPU tensors");
  }
}

// Calls `function` with the checked arguments in the arithmetic of z.
template <class F>
void with_slices(const Tensor& z, const Tensor& directions, const Tensor& steps, int64_t frequencies,
                 const F& function) {
  check(z, directions, steps, frequencies);
  const CodePath& path = code_path_in_use();
  if (z.scalar_type() == ScalarType::Double) {
    function(Slices<double>(path.float64.slices, z, directions, steps, frequencies));
  } else {
    function(Slices<float>(path.float32.slices, z, directions, steps, frequencies));
  }
}

Tensor native_waves(const Tensor& z, const Tensor& directions, const Tensor& steps, int64_t frequencies) {
  Tensor sums;
  with_slices(z, directions, steps, frequencies, [&](const auto& slices) {
    sums = make_tensor({z.size(0), 2, frequencies, steps.size(1)}, ScalarType::Double, z);
    slices.waves(static_cast<double*>(sums.mutable_data_ptr()));
  });
  return sums;
}

Tensor native_slopes(const Tensor& z, const Tensor& directions, const Tensor& steps, const Tensor& cotangent) {
  Tensor dz;
  with_slices(z, directions, steps, cotangent.dim() == 4 ? cotangent.size(2) : 0, [&](const auto& slices) {
    STD_TORCH_CHECK(cotangent.size(0) == z.size(0) && cotangent.size(1) == 2 && cotangent.size(3) == steps.size(1) &&
                        cotangent.scalar_type() == ScalarType::Double && cotangent.is_cpu() &&
                        cotangent.is_contiguous(),
                    "cotangent must be a contiguous float64 tensor (B, 2, T, R)");
    dz = make_tensor({z.size(0), z.size(1), z.size(2)}, z.scalar_type(), z);
    slices.slopes(data<double>(cotangent), dz.mutable_data_ptr());
  });
  return dz;
}

}  // namespace
}  // namespace segma

SEGMA_IMPLEMENT(CPU, library) {
  library.impl("native_waves", TORCH_BOX(&segma::native_waves));
  library.impl("native_slopes", TORCH_BOX(&segma::native_slopes));
}
