// A stand-in for libcuda.so.1 of a machine without a GPU: with it Triton compiles its kernels for an H100 into its cache
// as it would there, and launches nothing. See pack.py.
#include <stdint.h>
#include <stdlib.h>

typedef int Result;

enum { WARP = 10, SHARED = 8, PROCESSORS = 16, SHARED_OF_PROCESSOR = 81, SHARED_AT_MOST = 97 };  // attributes of a device

Result cuInit(unsigned flags) { return 0; }
Result cuCtxGetCurrent(void** context) { return *context = (void*)1, 0; }
Result cuCtxSetCurrent(void* context) { return 0; }
Result cuCtxGetLimit(size_t* value, int limit) { return *value = 0; }
Result cuCtxSetLimit(int limit, size_t value) { return 0; }
Result cuDeviceGet(int* device, int ordinal) { return *device = 0; }
Result cuDevicePrimaryCtxRetain(void** context, int device) { return *context = (void*)1, 0; }
Result cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == SHARED_AT_MOST        ? 232448
           : attribute == PROCESSORS          ? 132
           : attribute == SHARED              ? 49152
           : attribute == SHARED_OF_PROCESSOR ? 233472
           : attribute == WARP                ? 32
                                              : 1024;
  return 0;
}
Result cuModuleLoadData(void** module, const void* image) { return *module = (void*)2, 0; }
Result cuModuleGetFunction(void** function, void* module, const char* name) { return *function = (void*)3, 0; }
Result cuFuncGetAttribute(int* value, int attribute, void* function) {
  *value = attribute == 0 ? 1024 : attribute == 4 ? 255 : 0;
  return 0;
}
Result cuFuncSetAttribute(void* function, int attribute, int value) { return 0; }
Result cuFuncSetCacheConfig(void* function, int config) { return 0; }
Result cuGetErrorString(Result error, const char** text) { return *text = "stand-in", 0; }
Result cuOccupancyMaxActiveClusters(int* count, void* function, void* config) { return *count = 1, 0; }
Result cuTensorMapEncodeTiled(void) { return 0; }
Result cuPointerGetAttribute(void* data, int attribute, uint64_t pointer) { return *(uint64_t*)data = pointer, 0; }
Result cuLaunchKernelEx(const void* config, void* function, void** parameters, void** extra) { return 0; }
Result cuLaunchKernel(void) { return 0; }
