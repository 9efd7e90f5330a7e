// What operators of all devices do with tensors: check them, and make the results. For files that are built with
// torch's stable ABI.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "common/points.h"

namespace segma {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Kind kind_of(const Tensor& points) {
  switch (points.scalar_type()) {
    case ScalarType::Half:
      return Kind::half;
    case ScalarType::BFloat16:
      return Kind::bfloat16;
    case ScalarType::Float:
      return Kind::float32;
    case ScalarType::Double:
      return Kind::float64;
    default:
      break;
  }
  STD_TORCH_CHECK(false, "points must be half, bfloat16, float32 or float64");
  return Kind::float32;
}

// The points of the arguments of an operator, all contiguous and on one device; see segma_fast/operators.py.
inline Points check_cloud(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                          int64_t stop) {
  STD_TORCH_CHECK(z.dim() == 2 && means.dim() == 2 && z.size(1) == means.size(1) && z.size(1) > 0,
                  "z and means must have shapes (m, D) and (K, D)");
  STD_TORCH_CHECK(z.scalar_type() == means.scalar_type(), "z and means must have one dtype");
  const int64_t rows = z.size(0) + means.size(0);
  for (const Tensor* vector : {&h, &w}) {
    STD_TORCH_CHECK(vector->dim() == 1 && vector->size(0) == rows && vector->scalar_type() == ScalarType::Double,
                    "h and w must be float64 vectors of ", rows, " elements, one a point");
  }
  for (const Tensor* tensor : {&z, &means, &h, &w}) {
    STD_TORCH_CHECK(tensor->is_contiguous() && tensor->device() == z.device(),
                    "z, means, h and w must be contiguous and on one device");
  }
  STD_TORCH_CHECK(0 <= start && start <= stop && stop <= rows, "rows ", start, ":", stop, " are not within 0:", rows);
  return {z.const_data_ptr(), means.const_data_ptr(), z.size(0), rows, z.size(1), kind_of(z)};
}

// Whether the form of phi_D is exact, by its name.
inline bool is_exact(const std::string& phi) {
  STD_TORCH_CHECK(phi == "approx" || phi == "exact", "phi='", phi, "', expected 'approx' or 'exact'");
  return phi == "exact";
}

// A contiguous tensor where `like` is, without the way through the dispatcher.
inline Tensor make_tensor(std::initializer_list<int64_t> sizes, ScalarType type, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes.begin()[i];
  const int32_t dtype = type == ScalarType::Double  ? aoti_torch_dtype_float64()
                        : type == ScalarType::Float ? aoti_torch_dtype_float32()
                                                    : aoti_torch_dtype_uint8();
  int32_t device = aoti_torch_device_type_cpu(), index = 0;
  if (!like.is_cpu()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  }
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.begin(), strides.data(),
                                                  dtype, device, index, &handle));
  return Tensor(handle);
}

}  // namespace segma
