// The code path for every processor: what the compiler makes of vectors of 16 bytes (SSE2, NEON or plain code).
#include "common/profile.h"
#include "cpu/code_path.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define SEGMA_ISA 0
#define SEGMA_BYTES 16
namespace segma {
namespace portable {
namespace {
#include "cpu/isa/simd.h"
#include "cpu/isa/kernels.h"
}  // namespace
static bool supported() {
  return true;
}
}  // namespace portable

const CodePath portable_code_path{"portable", portable::supported, portable::kernels<float>(),
                                  portable::kernels<double>(), portable::line};
}  // namespace segma
