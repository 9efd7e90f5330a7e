// What operators of all devices do with tensors: check them, and make the results. For files that are built with
// torch's stable ABI.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <string>
#include <tuple>
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

// The clouds of a call: one, or several samples of one size, for which every tensor has a first dimension more.
struct Samples {
  Points points;  // of the first
  int64_t count;
  bool is_batch;
};

// The arguments of an operator, all contiguous and on one device; see segma_fast/distance/operators.py.
inline Samples check_samples(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                             int64_t stop) {
  const bool is_batch = z.dim() == 3;
  const int64_t row = is_batch ? 1 : 0;  // the dimension of the points
  STD_TORCH_CHECK((z.dim() == 2 || is_batch) && means.dim() == z.dim() && z.size(row + 1) == means.size(row + 1) &&
                      z.size(row + 1) > 0 && (!is_batch || z.size(0) == means.size(0)),
                  "z and means must have shapes (m, D) and (K, D), or (B, m, D) and (B, K, D)");
  STD_TORCH_CHECK(z.scalar_type() == means.scalar_type(), "z and means must have one dtype");
  const int64_t rows = z.size(row) + means.size(row);
  for (const Tensor* vector : {&h, &w}) {
    STD_TORCH_CHECK(vector->dim() == row + 1 && vector->size(row) == rows &&
                        (!is_batch || vector->size(0) == z.size(0)) && vector->scalar_type() == ScalarType::Double,
                    "h and w must be float64 vectors of ", rows, " elements, one a point");
  }
  for (const Tensor* tensor : {&z, &means, &h, &w}) {
    STD_TORCH_CHECK(tensor->is_contiguous() && tensor->device() == z.device(),
                    "z, means, h and w must be contiguous and on one device");
  }
  STD_TORCH_CHECK(0 <= start && start <= stop && stop <= rows, "rows ", start, ":", stop, " are not within 0:", rows);
  STD_TORCH_CHECK(!is_batch || (start == 0 && stop == rows), "of several samples all rows must be evaluated, 0:", rows,
                  ", got ", start, ":", stop);
  const Points points{z.const_data_ptr(), means.const_data_ptr(), z.size(row), rows, z.size(row + 1), kind_of(z)};
  return {points, is_batch ? z.size(0) : 1, is_batch};
}

// Whether the form of phi_D is exact, by its name.
inline bool is_exact(const std::string& phi) {
  STD_TORCH_CHECK(phi == "approx" || phi == "exact", "phi='", phi, "', expected 'approx' or 'exact'");
  return phi == "exact";
}

// A contiguous tensor where `like` is, without the way through the dispatcher.
inline Tensor make_tensor(const std::vector<int64_t>& sizes, ScalarType type, const Tensor& like) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<int64_t>(1, sizes[i]);
  const int32_t dtype = type == ScalarType::Double  ? aoti_torch_dtype_float64()
                        : type == ScalarType::Float ? aoti_torch_dtype_float32()
                                                    : aoti_torch_dtype_uint8();
  int32_t device = aoti_torch_device_type_cpu(), index = 0;
  if (!like.is_cpu()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &index));
  }
  AtenTensorHandle handle;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                                                  dtype, device, index, &handle));
  return Tensor(handle);
}

using EnergyAndGradient = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;  // the latter by z, means, h and w

inline Tensor make_energy(const Samples& samples, const Tensor& like) {
  return make_tensor(samples.is_batch ? std::vector<int64_t>{samples.count} : std::vector<int64_t>{},
                     ScalarType::Double, like);
}

// Memory for the results of the rows [start, stop).
inline EnergyAndGradient make_results(const Samples& samples, int64_t start, int64_t stop, const Tensor& like) {
  const Points& points = samples.points;
  const ScalarType type = points.kind == Kind::float64 ? ScalarType::Double : ScalarType::Float;
  const int64_t middle = std::max(start, std::min(stop, points.first_rows));
  const auto make = [&](std::vector<int64_t> sizes, ScalarType its_type) {
    if (samples.is_batch) sizes.insert(sizes.begin(), samples.count);
    return make_tensor(sizes, its_type, like);
  };
  return {make_energy(samples, like), make({middle - start, points.dim}, type), make({stop - middle, points.dim}, type),
          make({stop - start}, ScalarType::Double), make({stop - start}, ScalarType::Double)};
}

}  // namespace segma
