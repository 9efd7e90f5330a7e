// The Python module segma_fast._C: how the kernels were built, and the profile of a pair over NumPy arrays. That the
// module is loaded registers the operators.
#define SEGMA_TARGET_MAJOR ((TORCH_TARGET_VERSION >> 56) & 0xff)
#define SEGMA_TARGET_MINOR ((TORCH_TARGET_VERSION >> 48) & 0xff)
constexpr unsigned target_major = SEGMA_TARGET_MAJOR, target_minor = SEGMA_TARGET_MINOR;
#undef TORCH_TARGET_VERSION  // no header of torch here: pybind11 is not part of the stable ABI

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/architectures.h"
#include "common/exact_phi.h"
#include "common/profile.h"
#include "cpu/code_path.h"

#define SEGMA_TEXT(...) #__VA_ARGS__
#define SEGMA_EXPANDED_TEXT(...) SEGMA_TEXT(__VA_ARGS__)

namespace py = pybind11;

namespace {

std::string compiler() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#elif defined(_MSC_FULL_VER)
  return "MSVC " SEGMA_EXPANDED_TEXT(_MSC_FULL_VER);
#else
  return "unknown";
#endif
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler();
#ifdef _MSVC_LANG
  info["cxx_standard"] = _MSVC_LANG / 100 % 100;
#else
  info["cxx_standard"] = __cplusplus / 100 % 100;
#endif
  info["built_with_torch"] = SEGMA_EXPANDED_TEXT(SEGMA_TORCH_VERSION);
  info["torch_target"] = std::to_string(target_major) + "." + std::to_string(target_minor);
  int count = 0;
  const char* const* paths = segma::compiled_code_paths(&count);
  py::list names;
  for (int i = 0; i < count; ++i) names.append(paths[i]);
  info["code_paths"] = names;
  info["code_path"] = py::none();
  info["code_path_error"] = py::none();
  try {
    info["code_path"] = segma::code_path_in_use().name;
  } catch (const std::runtime_error& error) {
    info["code_path_error"] = error.what();
  }
  py::list architectures;
  std::stringstream listed(segma::cuda_architectures);
  for (std::string name; std::getline(listed, name, '_');) architectures.append(name);
  info["cuda_architectures"] = architectures;
#ifdef SEGMA_SANITIZED
  info["sanitized"] = true;
#else
  info["sanitized"] = false;
#endif
  return info;
}

template <class T>
py::tuple profile_of(const py::object& t, const py::object& h, long long dim, bool exact) {
  using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;
  const py::list pair(py::module_::import("numpy").attr("broadcast_arrays")(t, h));
  const Array distances(pair[0]), widths(pair[1]);
  const py::array::ShapeContainer shape(distances.shape(), distances.shape() + distances.ndim());
  Array k(shape), k_t(shape), k_h(shape);
  const segma::Form form = segma::form_of(dim, exact, sizeof(T) == sizeof(double));
  const auto polynomial = segma::Polynomial<T>::of(form);
  for (py::ssize_t i = 0; i < distances.size(); ++i) {
    const auto square_root = [](auto x) { return std::sqrt(x); };
    const auto exponential = [](auto x) { return std::exp(x); };
    const auto pair_profile =
        segma::profile<T>(distances.data()[i], widths.data()[i], dim, form.slope, polynomial, square_root, exponential);
    k.mutable_data()[i] = pair_profile.k;
    k_t.mutable_data()[i] = pair_profile.k_t;
    k_h.mutable_data()[i] = pair_profile.k_h;
  }
  return py::make_tuple(k, k_t, k_h);
}

py::tuple profile(const py::object& t, const py::object& h, long long dim, const std::string& phi) {
  if (dim < 1) throw py::value_error("dim=" + std::to_string(dim) + ", expected at least 1");
  if (phi != "approx" && phi != "exact") throw py::value_error("phi='" + phi + "', expected 'approx' or 'exact'");
  const auto is_single = [](const py::object& x) {
    return py::hasattr(x, "dtype") && py::dtype::of<float>().equal(x.attr("dtype"));
  };
  return is_single(t) && is_single(h) ? profile_of<float>(t, h, dim, phi == "exact")
                                      : profile_of<double>(t, h, dim, phi == "exact");
}

py::tuple polynomial(long long dim, bool float64) {
  if (dim < 2) throw py::value_error("dim=" + std::to_string(dim) + ", expected at least 2");
  const segma::Form& form = segma::exact_form(dim, float64);
  return py::make_tuple(form.slope, std::vector<double>(form.coefficients, form.coefficients + form.degree + 1));
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.doc() = "The compiled kernels of segma_fast.";
  module.def("build_info", &build_info, "How this module was built, and the code path that this CPU gets.");
  module.def("profile", &profile, py::arg("t"), py::arg("h"), py::arg("dim"), py::arg("phi") = "approx",
             "The kernel k(t, h) of a pair in `dim` dimensions, dk/dt and dk/dh, over arrays t >= 0 and h > 0, with "
             "the approximation of phi_D or the exact one.");
  module.def("polynomial", &polynomial, py::arg("dim"), py::arg("float64"),
             "c and the coefficients of Q in powers of 2 tau - 1 of the exact phi_D, for float32 or float64.");
}
