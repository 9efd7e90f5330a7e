// The code path for x86-64 with AVX-512.
#include "cpu/code_path.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")
#endif

#include "common/profile.h"  // here, so that its functions may take this path's vectors
#define SEGMA_ISA 2
#define SEGMA_BYTES 64
namespace segma {
namespace avx512 {
namespace {
#include "cpu/isa/simd.h"
#include "cpu/isa/kernels.h"
}  // namespace
}  // namespace avx512
}  // namespace segma

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

namespace segma {
static bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}
const CodePath avx512_code_path{"avx512", supported, avx512::kernels<float>(), avx512::kernels<double>(), avx512::line};
}  // namespace segma
#endif
