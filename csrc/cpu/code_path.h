// The code paths, one for an instruction set each, and the one in use; free of torch.
#pragma once

#include "cpu/kernels.h"

namespace segma {

struct CodePath {
  const char* name;
  bool (*supported)();
  Kernels<float> float32;
  Kernels<double> float64;
  LineKernel line;
};

extern const CodePath avx512_code_path, avx2_code_path, portable_code_path;

const char* const* compiled_code_paths(int* count);  // their names, best first
// The best that runs here, or that of SEGMA_FAST_CPU_PATH; throws std::runtime_error if this processor has no such one.
const CodePath& code_path_in_use();

}  // namespace segma
