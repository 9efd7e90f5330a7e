// The first launch: points as the second one reads them.
//
// Every block centres 64 points, divides them by a power of two and rounds them once, to one fp16 number or to a sum of
// two (or leaves them float32); all that follows is taken from what was rounded. It also says how the kernel looks from
// afar, r^3 = a_a s_b or about so, and whether the products can hold the cloud at all (docs/kernels.md, "Triton's
// kernels").
#pragma once

#include "cuda/work.h"

namespace segma::cuda {

// Matrix units cut sums to floats, toward 0 and once for every 16 coordinates: of a score that grows steadily they take
// about this much each time (measured on an H200; from half to twice as much, as the numbers are).
constexpr double CUT = 0.275 * FLT_EPSILON;
constexpr int MIDDLES = 4096;           // numbers for which there is room in shared memory
constexpr int SAMPLE = 16;              // points from which the unit of length is taken
constexpr int HEADROOM = 5;             // a point at a usual distance from the centre is about 2^5 units away from it
constexpr double CLOSE_BY = 0x1p-8;     // squared distances over what is usual with the widths: fp16 needs other units
constexpr double CLOSEST = 0x1p-24;     // up to which such units serve, with r^3 of the widths in float32
constexpr double LARGEST = 3.6e9;       // squared distance from the centre that fp16 coordinates reach, (6e4)^2
constexpr double WIDEST_COMPONENT = 8;  // times far / limit: what is wider has rows of tiny weights

// Row of the i-th point of a sample: in steps of the golden ratio, which meet no period of the data.
SEGMA_DEVICE Index sampled(int i, Index total) {
  return static_cast<Index>(((i * 40503) & 65535) * int64_t(total) >> 16);
}

SEGMA_DEVICE float power_of_two(int exponent) {
  return gpu::bits_as<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

// The power of two in which a length of size^(1/2) is about 2^HEADROOM.
SEGMA_DEVICE float unit_for(double size) {
  const int exponent = static_cast<int>(gpu::bits_as<uint64_t>(size) >> 52 & 2047) - 1023;
  const int half = (exponent >> 1) - HEADROOM;
  return power_of_two(half < -100 ? -100 : half > 100 ? 100 : half);
}

// The upper of the two middle ones of SAMPLE numbers, which the block's threads have just written; `found` is shared
// too.
SEGMA_DEVICE double median(const double* sizes, double& found, int threads) {
  const int i = gpu::thread();
  if (i == 0) found = 0;  // where some are not numbers
  gpu::barrier(0, threads);
  if (i < SAMPLE) {
    int before = 0;
    for (int j = 0; j < SAMPLE; ++j) before += sizes[j] < sizes[i] || (sizes[j] == sizes[i] && j < i);
    if (before == SAMPLE / 2) found = sizes[i];
  }
  gpu::barrier(0, threads);
  return found;
}

// Halfway between the two middle ones of four.
SEGMA_DEVICE float middle_of(float a, float b, float c, float d) {
  const float lower = fmaxf(fminf(a, b), fminf(c, d)), upper = fminf(fmaxf(a, b), fmaxf(c, d));
  return 0.5f * lower + 0.5f * upper;
}

// A point in the middle of the cloud that a few points far away do not move, coordinate by coordinate: the middle of
// each of some groups of four points, and the mean of these without the least and the greatest.
SEGMA_DEVICE void find_centre(const Cloud& cloud, float* centre, float* middles) {
  const int chunk = cloud.dim < 256 ? cloud.dim : 256;
  const int groups = chunk <= 64 ? 64 : chunk <= 128 ? 32 : 16;
  for (int begin = 0; begin < cloud.dim; begin += chunk) {
    const int count = cloud.dim - begin < chunk ? cloud.dim - begin : chunk;
#pragma unroll 4
    for (int i = gpu::thread(); i < groups * count; i += PREPARERS) {
      float x[4];
      for (int j = 0; j < 4; ++j) x[j] = cloud.at<float>(sampled(i / count * 4 + j, cloud.total), begin + i % count);
      middles[i] = middle_of(x[0], x[1], x[2], x[3]);
    }
    gpu::barrier(0, PREPARERS);
    for (int d = gpu::thread(); d < count; d += PREPARERS) {
      float least = middles[d], most = least, sum = 0;
#pragma unroll 8
      for (int g = 1; g < groups; ++g) {
        least = fminf(least, middles[g * count + d]);
        most = fmaxf(most, middles[g * count + d]);
      }
      int inner = 0;
#pragma unroll 8
      for (int g = 0; g < groups; ++g) {
        const float x = middles[g * count + d];
        if (x > least && x < most) sum += x, ++inner;
      }
      centre[begin + d] = inner > 0 ? sum / static_cast<float>(inner) : 0.5f * least + 0.5f * most;
    }
    gpu::barrier(0, PREPARERS);
  }
}

struct Usual {
  double size;  // h/c + |x - centre|^2 of the median of a sample
  double unit;  // the same for the unit of length: less where all of the sample are close by
  bool fits;    // whether fp16 reaches from the widths to the points
};

// `sizes` has room for two numbers for each of the sample and for one more.
SEGMA_DEVICE Usual usual_sizes(const Work& work, const float* centre, double* sizes) {
  const Cloud& cloud = work.cloud;
  constexpr int LANES = PREPARERS / SAMPLE;
  const Index row = sampled(gpu::thread() / LANES, cloud.total);
  double norm = 0;
  for (int d = gpu::thread() % LANES; d < cloud.dim; d += LANES) {
    const double x = cloud.at<float>(row, d) - centre[d];
    norm += x * x;
  }
  norm = sum_of_lanes(norm, LANES);
  if (gpu::thread() % LANES == 0) {
    sizes[gpu::thread() / LANES] = cloud.h(row) * work.wide + norm;
    sizes[SAMPLE + gpu::thread() / LANES] = norm;
  }
  const double size = median(sizes, sizes[2 * SAMPLE], PREPARERS);
  double most = 0;
  for (int i = SAMPLE; i < 2 * SAMPLE; ++i) most = most < sizes[i] ? sizes[i] : most;
  const double wanted = most / CLOSE_BY, least = size * CLOSEST;
  return {size, most == 0 || wanted > size ? size : wanted < least ? least : wanted, most == 0 || wanted >= least};
}

// s = (l + far)^(-3/2): r^3 of a pair of which one has this l and the other is a usual point.
SEGMA_DEVICE float far_scale(float lifted, float far) {
  const float r = gpu::inverse_root(lifted + far);
  return r * r * r;
}

// What a warp says of its points.
struct Description {
  float heaviest = 0, size = 0, misfits = 0;
  double mass = 0;

  SEGMA_DEVICE void add(const Description& other) {
    heaviest = fmaxf(heaviest, other.heaviest);
    size += other.size;
    misfits += other.misfits;
    mass += other.mass;
  }
};

// Stores what pairs need of a point besides coordinates (first lane), adds to the description, and gives w s.
SEGMA_DEVICE float describe(const Work& work, Index row, double norm, double width, float weight, float far,
                            bool stores, Description& found) {
  const Cloud& cloud = work.cloud;
  // less what is cut from scores, so that all squared distances of pairs are too small alike, and not the near ones
  // most
  const double cut = work.halves != nullptr ? 1.0 - CUT * ((cloud.dim + 15) / 16) : 1.0;
  const float lifted = static_cast<float>((width + norm) * cut);
  const double rounded = lifted / cut - norm;  // the width that all pairs of this point see; k_aa takes the same
  const float sigma = weight * far_scale(lifted, far);
  if (stores) {
    const double seen = fabs(rounded - width) <= 1e-4 * width ? rounded : width;
    *work.seen_width(row) = seen;
    work.singles.widths()[row] = static_cast<float>(2 * seen);
    work.singles.lifted()[row] = lifted;
    work.singles.weights()[row] = weight;
    work.singles.sigmas()[row] = sigma;
  }
  if (row >= cloud.total) return 0.0f;
  const float near = gpu::inverse_root(static_cast<float>(width));
  const float misfit = (norm <= work.limit * width ? 0.0f : 1.0f) + (norm <= LARGEST ? 0.0f : 2.0f) +
                       (width * (WIDEST_COMPONENT / work.limit) <= far ? 0.0f : 2.0f);
  found.add({fabsf(weight) * near * near * near, fabsf(sigma), misfit, sigma});
  return sigma;
}

// Shared memory of `prepare`: centre, middles of groups, then sums of the warps.
SEGMA_BOTH int prepare_bytes(int dim) {
  return (dim + 1) / 2 * 8 + MIDDLES * 8 + (2 * SAMPLE + 1) * 8 +
         PREPARERS / 32 * static_cast<int>(sizeof(Description));
}

SEGMA_DEVICE void prepare_points(const Work& work) {
  constexpr int WARPS = PREPARERS / 32, MOST = 256 / 32;  // coordinates of a lane, where fp16 is wanted
  const Cloud& cloud = work.cloud;
  const int dim = cloud.dim, width = work.slabs.width, block = gpu::block_x();
  const int warp = gpu::thread() / 32, lane = gpu::thread() % 32;
  float* centre = reinterpret_cast<float*>(gpu::shared_memory());
  float* middles = centre + (dim + 1) / 2 * 2;
  double* sizes = reinterpret_cast<double*>(middles) + MIDDLES;
  Description* said = reinterpret_cast<Description*>(sizes + 2 * SAMPLE + 1);

  find_centre(cloud, centre, middles);
  const Usual usual = usual_sizes(work, centre, sizes);
  const float unit = unit_for(usual.unit), inverse = 1.0f / unit;
  const double inverse_square = static_cast<double>(inverse) * inverse;
  const float far = usual.fits ? static_cast<float>(usual.size * inverse_square) : 0.0f;  // 0 is a misfit of all points
  if (work.coarse) {
    int bits = 0;
    while (dim >> (bits + 1)) ++bits;
    // about a usual coordinate: so coarse a centre leaves nearly all differences from it exact in fp16
    const float step = unit * power_of_two(HEADROOM + 2 - bits / 2);
    for (int d = gpu::thread(); d < dim; d += PREPARERS) centre[d] = floorf(centre[d] / step + 0.5f) * step;
    gpu::barrier(0, PREPARERS);
  }
  if (block == 0) {
    for (int d = gpu::thread(); d < width; d += PREPARERS) work.singles.centre()[d] = d < dim ? centre[d] : 0.0f;
    if (gpu::thread() == 0) work.singles.unit() = unit, work.singles.far() = far;
    for (int i = gpu::thread(); i < work.counters; i += PREPARERS) *work.ticket(i) = 0;
  }

  const bool rounds = work.halves != nullptr;
  const int64_t tile_halves = work.slabs.tile_bytes() / 2 * (work.low ? 2 : 1);
  double pull[MOST] = {};
  Description mine;
  for (int i = warp; i < PREPARED; i += WARPS) {
    const Index row = block * PREPARED + i, place = row - work.offset;
    const bool inside = row < cloud.total, kept = place >= 0 && place < work.length;
    // asked for before anything is stored, behind which no load is moved up
    const double point_width = inside ? cloud.h(row) * work.wide * inverse_square : 1.0;
    const float weight = inside ? static_cast<float>(cloud.w(row)) : 0.0f;
    double norm = 0;
    float held[MOST];
    if (!rounds) {
      for (int d = lane; d < dim; d += 32) {
        const double x = inside ? (cloud.at<float>(row, d) - centre[d]) * inverse : 0.0f;
        norm += x * x;
      }
    } else {
      uint16_t* tile = work.tiles() + place / work.slabs.rows * tile_halves;
#pragma unroll
      for (int j = 0; j < MOST; ++j) {
        const int d = lane + 32 * j;
        if (d >= width) break;
        const float x = inside && d < dim ? (cloud.at<float>(row, d) - centre[d]) * inverse : 0.0f;
        const uint16_t high = gpu::to_half(x), low = gpu::to_half(x - gpu::from_half(high));
        held[j] = gpu::from_half(high) + (work.low ? gpu::from_half(low) : 0.0f);
        norm += static_cast<double>(held[j]) * held[j];
        if (!kept) continue;
        const int at = work.slabs.place(place % work.slabs.rows, d) / 2;
        tile[at] = high;
        if (work.low) tile[work.slabs.tile_bytes() / 2 + at] = low;
      }
    }
    norm = sum_of_lanes(norm, 32);
    const double sigma = describe(work, row, norm, point_width, weight, far, lane == 0, mine);
    if (!rounds) continue;
#pragma unroll
    for (int j = 0; j < MOST; ++j) {
      if (lane + 32 * j < width) pull[j] += sigma * held[j];
    }
  }

  double* pulls = reinterpret_cast<double*>(middles);  // (WARPS, width)
  if (lane == 0) said[warp] = mine;
  gpu::barrier(0, PREPARERS);
  if (gpu::thread() == 0) {
    Description all;
    for (int i = 0; i < WARPS; ++i) all.add(said[i]);
    work.singles.numbers(0)[block] = all.heaviest;
    work.singles.numbers(1)[block] = all.size;
    work.singles.numbers(2)[block] = all.misfits;
    work.singles.numbers(3)[block] = static_cast<float>(all.mass);
  }
  if (!rounds) return;
#pragma unroll
  for (int j = 0; j < MOST; ++j) {
    if (lane + 32 * j < width) pulls[warp * width + lane + 32 * j] = pull[j];
  }
  gpu::barrier(0, PREPARERS);
  for (int d = gpu::thread(); d < width; d += PREPARERS) {
    double sum = 0;
    for (int i = 0; i < WARPS; ++i) sum += pulls[i * width + d];
    work.singles.field()[block * int64_t(width) + d] = static_cast<float>(sum);
  }
}

}  // namespace segma::cuda
