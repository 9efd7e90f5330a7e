// The code path for x86-64 with AVX2 and FMA.
#include "cpu/code_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "common/profile.h"  // here, so that its functions may take this path's vectors
#define SEGMA_ISA 1
#define SEGMA_BYTES 32
namespace segma {
namespace avx2 {
namespace {
#include "cpu/isa/simd.h"
#include "cpu/isa/kernels.h"
}  // namespace
}  // namespace avx2
}  // namespace segma

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace segma {
static bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
const CodePath avx2_code_path{"avx2", supported, avx2::kernels<float>(), avx2::kernels<double>(), avx2::line};
}  // namespace segma
#endif
