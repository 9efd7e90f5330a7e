// Matrix instructions as PTX documents their fragments: ldmatrix, mma.sync m16n8k16, wgmma m64nNk16.
#pragma once

namespace segma::gpu {

// ---- of a warp

inline void load_matrices(uint32_t (&found)[4], uint32_t address, bool transposed) {
  static const char what[2] = {};
  struct Lane {
    uint32_t (*found)[4];
    uint32_t address;
    bool transposed;
  } mine{&found, address, transposed};
  meet_warp(&what[transposed], mine, [](Lane** lanes) {
    for (int i = 0; i < 4; ++i) {
      uint16_t matrix[8][8];
      for (int row = 0; row < 8; ++row) {
        const uint32_t from = lanes[8 * i + row]->address;
        require(from % 16 == 0, "ldmatrix: a row that is not aligned to 16 bytes");
        std::memcpy(matrix[row], at_address(from), 16);
      }
      for (int lane = 0; lane < WARP; ++lane) {
        const int row = lane / 4, column = lane % 4 * 2;
        const bool turned = lanes[lane]->transposed;
        const uint16_t low = turned ? matrix[column][row] : matrix[row][column];
        const uint16_t high = turned ? matrix[column + 1][row] : matrix[row][column + 1];
        (*lanes[lane]->found)[i] = low | uint32_t(high) << 16;
      }
    }
  });
}
inline void load_matrices(uint32_t (&found)[4], uint32_t address) {
  load_matrices(found, address, false);
}
inline void load_matrices_transposed(uint32_t (&found)[4], uint32_t address) {
  load_matrices(found, address, true);
}

// sums[n] += a[0] b[0][n] + ..., as tensor cores are known to add: the exact products and the sum are cut to EXTRA bits
// more than a float of the size of the greatest of them has, and what they add up to is cut to a float.
template <int N, int COUNT, int EXTRA>
void add_products(float* sums, const float* a, const float (*b)[N]) {
  double most[N], unit[N], inverse[N], total[N];
  for (int n = 0; n < N; ++n) most[n] = std::fabs(sums[n]);
  for (int k = 0; k < COUNT; ++k) {
    for (int n = 0; n < N; ++n) {
      const double term = std::fabs(double(a[k]) * b[k][n]);
      most[n] = term > most[n] ? term : most[n];
    }
  }
  for (int n = 0; n < N; ++n) {
    uint64_t bits;
    std::memcpy(&bits, &most[n], 8);
    bits &= uint64_t(0x7ff) << 52;
    std::memcpy(&unit[n], &bits, 8);
    unit[n] = unit[n] > 0 ? unit[n] * (1.0 / (1 << (23 + EXTRA))) : 1.0;
    inverse[n] = 1.0 / unit[n];
    total[n] = std::trunc(sums[n] * inverse[n]);
  }
  for (int k = 0; k < COUNT; ++k) {
    for (int n = 0; n < N; ++n) total[n] += std::trunc(double(a[k]) * b[k][n] * inverse[n]);
  }
  for (int n = 0; n < N; ++n) {
    const double exact = total[n] * unit[n];
    const float near = static_cast<float>(exact);
    uint32_t bits;
    std::memcpy(&bits, &near, 4);
    bits -= std::fabs(double(near)) > std::fabs(exact);
    std::memcpy(&sums[n], &bits, 4);
  }
}

inline float half_of(uint32_t pair, int which) {
  return from_half(static_cast<uint16_t>(pair >> 16 * which));
}

// Rows of the fragment A (16, 16) of a lane: registers 0 and 2 hold row lane / 4, 1 and 3 the eighth row after it.
inline void spread_rows(const uint32_t* a, int lane, float (*rows)[16]) {
  for (int i = 0; i < 4; ++i) {
    for (int e = 0; e < 2; ++e) rows[lane / 4 + 8 * (i & 1)][lane % 4 * 2 + e + 8 * (i >> 1)] = half_of(a[i], e);
  }
}

inline void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b_first, uint32_t b_second) {
  static const char what = 0;
  struct Lane {
    float (*sums)[4];
    const uint32_t (*a)[4];
    uint32_t b[2];
  } mine{&sums, &a, {b_first, b_second}};
  meet_warp(&what, mine, [](Lane** lanes) {
    float a[16][16], b[16][8], found[16][8];
    for (int lane = 0; lane < WARP; ++lane) {
      spread_rows(*lanes[lane]->a, lane, a);
      for (int i = 0; i < 2; ++i) {
        for (int e = 0; e < 2; ++e) b[lane % 4 * 2 + e + 8 * i][lane / 4] = half_of(lanes[lane]->b[i], e);
      }
      for (int i = 0; i < 4; ++i) found[lane / 4 + 8 * (i >> 1)][lane % 4 * 2 + (i & 1)] = (*lanes[lane]->sums)[i];
    }
    for (int row = 0; row < 16; ++row) {
      add_products<8, 8, 1>(found[row], a[row], b);
      add_products<8, 8, 1>(found[row], a[row] + 8, b + 8);
    }
    for (int lane = 0; lane < WARP; ++lane) {
      for (int i = 0; i < 4; ++i) (*lanes[lane]->sums)[i] = found[lane / 4 + 8 * (i >> 1)][lane % 4 * 2 + (i & 1)];
    }
  });
}

// ---- of a warpgroup: operands in shared memory are described by 64 bits

struct Described {
  uint32_t start, leading, stride, pitch, mask;

  explicit Described(uint64_t bits) {
    start = static_cast<uint32_t>(bits & 0x3fff) << 4;
    leading = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
    stride = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
    const int mode = static_cast<int>(bits >> 62);
    require(mode != 0, "wgmma: operands without swizzle are not modelled");
    pitch = mode == 1 ? 128 : mode == 2 ? 64 : 32;
    mask = pitch / 16 - 1;
  }
  float at(uint32_t offset) const {
    const uint32_t address = start + offset;
    uint16_t bits;
    std::memcpy(&bits, at_address(address ^ (address >> 7 & mask) << 4), 2);
    return from_half(bits);
  }
  // k is contiguous: rows of `pitch` bytes, eight of them a group
  float along_k(int row, int k) const { return at(row / 8 * stride + row % 8 * pitch + 2 * k); }
  // the other index is contiguous
  float across_k(int column, int k) const {
    const int wide = static_cast<int>(pitch) / 2;
    return at(k / 8 * stride + column / wide * leading + k % 8 * pitch + column % wide * 2);
  }
};

struct Operands {
  float* sums;
  uint32_t a[4];
  bool a_in_registers;
  uint64_t a_described, b_described;
  bool add;
};

template <int N>
void run_product(const std::vector<Operands>& lanes) {
  static thread_local float a[64][16], b[16][N], sums[64][N];
  const Described b_memory(lanes[0].b_described);
  for (int k = 0; k < 16; ++k) {
    for (int n = 0; n < N; ++n) b[k][n] = lanes[0].a_in_registers ? b_memory.across_k(n, k) : b_memory.along_k(n, k);
  }
  if (lanes[0].a_in_registers) {
    for (int t = 0; t < WARPGROUP; ++t) spread_rows(lanes[t].a, t % WARP, a + t / WARP * 16);
  } else {
    const Described a_memory(lanes[0].a_described);
    for (int row = 0; row < 64; ++row) {
      for (int k = 0; k < 16; ++k) a[row][k] = a_memory.along_k(row, k);
    }
  }
  const auto place = [](int t, int i) -> float& {
    return sums[t / WARP * 16 + t % WARP / 4 + (i >> 1 & 1) * 8][i / 4 * 8 + t % 4 * 2 + (i & 1)];
  };
  for (int t = 0; t < WARPGROUP; ++t) {
    for (int i = 0; i < N / 2; ++i) place(t, i) = lanes[t].add ? lanes[t].sums[i] : 0.0f;
  }
  for (int row = 0; row < 64; ++row) {
    add_products<N, 16, 2>(sums[row], a[row], b);
  }
  for (int t = 0; t < WARPGROUP; ++t) {
    for (int i = 0; i < N / 2; ++i) lanes[t].sums[i] = place(t, i);
  }
}

template <int N>
void queue_product(Operands operands) {
  static const char what = 0;
  meet_group(&what, operands, [](Operands** lanes) {
    std::vector<Operands> kept;
    for (int t = 0; t < WARPGROUP; ++t) kept.push_back(*lanes[t]);
    block->products[thread() / WARPGROUP].push_back({[kept] { run_product<N>(kept); }});
  });
}
template <int N>
void multiply_memory(float (&sums)[N / 2], uint64_t a, uint64_t b, bool add) {
  queue_product<N>({sums, {}, false, a, b, add});
}
template <int N>
void multiply_registers(float (&sums)[N / 2], const uint32_t (&a)[4], uint64_t b, bool add) {
  queue_product<N>({sums, {a[0], a[1], a[2], a[3]}, true, 0, b, add});
}
inline void begin_products() {}
inline void commit_products() {
  static const char what = 0;
  int none = 0;
  meet_group(&what, none, [](int**) {
    for (Product& product : block->products[thread() / WARPGROUP]) product.committed = true;
  });
}
inline void wait_for_products() {
  static const char what = 0;
  int none = 0;
  meet_group(&what, none, [](int**) {
    std::deque<Product>& waiting = block->products[thread() / WARPGROUP];
    for (; !waiting.empty(); waiting.pop_front()) {
      require(waiting.front().committed, "wgmma: waited for before it was committed");
      waiting.front().run();
    }
  });
}
template <int COUNT>
void use_products(float (&)[COUNT]) {}
template <int COUNT>
void take_registers() {}
template <int COUNT>
void give_registers() {}

}  // namespace segma::gpu
