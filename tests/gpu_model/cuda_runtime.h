// What the launcher needs of CUDA's runtime, on the host: launches run at once.
#pragma once

using cudaStream_t = void*;
using cudaError_t = int;
