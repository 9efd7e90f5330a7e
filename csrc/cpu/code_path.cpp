// Which instruction sets were compiled in, and the one that this processor runs.
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "cpu/kernels.h"

namespace segma {
namespace {

constexpr const char* VARIABLE = "SEGMA_FAST_CPU_PATH";

#if defined(__x86_64__) && defined(__GNUC__)
const Path* const PATHS[] = {&avx512_path, &avx2_path, &portable_path};
const char* const NAMES[] = {"avx512", "avx2", "portable"};
#else
const Path* const PATHS[] = {&portable_path};
const char* const NAMES[] = {"portable"};
#endif

std::string names_that_run() {
  std::string names;
  for (const Path* path : PATHS) {
    if (path->supported()) names += (names.empty() ? "" : ", ") + std::string(path->name);
  }
  return names;
}

const Path& choose() {
  const char* wanted = std::getenv(VARIABLE);
  const bool any = wanted == nullptr || *wanted == '\0';
  for (const Path* path : PATHS) {
    if ((any || std::string(path->name) == wanted) && path->supported()) return *path;
  }
  throw std::runtime_error(std::string(VARIABLE) + "='" + wanted +
                           "' is not a code path of this processor, expected one of " + names_that_run());
}

}  // namespace

const Path& path_in_use() {
  static const Path& path = choose();  // tried again while it throws
  return path;
}

const char* const* compiled_paths(int* count) {
  *count = sizeof(NAMES) / sizeof(NAMES[0]);
  return NAMES;
}

const char* chosen_path() {
  return path_in_use().name;
}

}  // namespace segma
