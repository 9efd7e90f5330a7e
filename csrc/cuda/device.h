// What kernels ask of the machine: instructions, or on the host a model of them, with which the tests run the same
// kernels.
#pragma once

#ifdef __CUDACC__
#include "cuda/hopper_instructions.h"
#include "cuda/instructions.h"
#define SEGMA_DEVICE __device__ __forceinline__
#define SEGMA_BOTH __host__ __device__ __forceinline__
#else
#include <gpu_model.h>
#define SEGMA_DEVICE inline
#define SEGMA_BOTH inline
#endif
