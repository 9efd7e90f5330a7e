// Where operators are registered with torch: the namespace segma_fast, or the one that the build names.
#pragma once

#include <torch/csrc/stable/library.h>

#ifndef SEGMA_OPERATORS
#define SEGMA_OPERATORS segma_fast
#endif
#define SEGMA_DEFINE(library) SEGMA_DEFINE_IN(SEGMA_OPERATORS, library)
#define SEGMA_DEFINE_IN(space, library) STABLE_TORCH_LIBRARY_FRAGMENT(space, library)
#define SEGMA_IMPLEMENT(key, library) SEGMA_IMPLEMENT_IN(SEGMA_OPERATORS, key, library)
#define SEGMA_IMPLEMENT_IN(space, key, library) STABLE_TORCH_LIBRARY_IMPL(space, key, library)
