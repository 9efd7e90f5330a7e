// Which instruction sets were compiled in, and the one that this processor runs.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/code_path.h"

namespace segma {
namespace {

constexpr const char* VARIABLE = "SEGMA_FAST_CPU_PATH";

#if defined(__x86_64__) && defined(__GNUC__)
const CodePath* const CODE_PATHS[] = {&avx512_code_path, &avx2_code_path, &portable_code_path};
const char* const NAMES[] = {"avx512", "avx2", "portable"};
#else
const CodePath* const CODE_PATHS[] = {&portable_code_path};
const char* const NAMES[] = {"portable"};
#endif

std::string names_that_run() {
  std::string names;
  for (const CodePath* code_path : CODE_PATHS) {
    if (code_path->supported()) names += (names.empty() ? "" : ", ") + std::string(code_path->name);
  }
  return names;
}

const CodePath& choose() {
  const char* wanted = std::getenv(VARIABLE);
  const bool any = wanted == nullptr || *wanted == '\0';
  for (const CodePath* code_path : CODE_PATHS) {
    if ((any || std::string(code_path->name) == wanted) && code_path->supported()) return *code_path;
  }
  throw std::runtime_error(std::string(VARIABLE) + "='" + wanted +
                           "' is not a code path of this processor, expected one of " + names_that_run());
}

}  // namespace

const CodePath& code_path_in_use() {
  static const CodePath& code_path = choose();  // tried again while it throws
  return code_path;
}

const char* const* compiled_code_paths(int* count) {
  *count = sizeof(NAMES) / sizeof(NAMES[0]);
  return NAMES;
}

}  // namespace segma
