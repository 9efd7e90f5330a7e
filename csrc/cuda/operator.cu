// The operator of the CUDA backend: checks the tensors, chooses the kernel, allocates and launches.
#include "common/tensors.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "common/exact_phi.h"
#include "common/operators.h"

#include <string>
#include <tuple>

namespace segma::cuda {
namespace {

// Memory for one call; freed when the stream has done with it, as all tensors of torch are.
struct Workspace {
  const Tensor& like;
  std::vector<Tensor> kept;

  template <class T>
  T* take(int64_t count) {
    kept.push_back(make_tensor({count * int64_t(sizeof(T))}, ScalarType::Byte, like));
    return static_cast<T*>(kept.back().mutable_data_ptr());
  }
};

void take_form(const Form& form, bool float64, Work& work) {
  work.wide = 1 / form.slope;
  if (float64) {
    work.float64 = Polynomial<double>::of(form);
    work.own = work.float64.own();
  } else {
    work.float32 = Polynomial<float>::of(form);
    work.own = work.float32.own();
    STD_TORCH_CHECK(form.degree <= float32_degree(work.cloud.dim), "the polynomial of degree ", form.degree, " in ",
                    work.cloud.dim, " dimensions does not fit the kernels");
  }
}

// Goes on by so many samples, whose inputs and results lie one behind the other.
void move_on(Work& work, int64_t samples) {
  Cloud& cloud = work.cloud;
  const int64_t codes = samples * cloud.m, means = samples * (cloud.total - cloud.m), rows = codes + means;
  const int64_t point = cloud.dim * bytes_of(cloud.kind), real = cloud.dim * (cloud.kind == Kind::float64 ? 8 : 4);
  cloud.z = static_cast<const char*>(cloud.z) + codes * point;
  cloud.means = static_cast<const char*>(cloud.means) + means * point;
  cloud.widths += rows;
  cloud.weights += rows;
  work.dz = static_cast<char*>(work.dz) + codes * real;
  work.dmeans = static_cast<char*>(work.dmeans) + means * real;
  work.dh += rows;
  work.dw += rows;
  work.energy += samples;
}

// Evaluates the first of so many samples, all that are launched together, and says how many.
int64_t fill(const Points& points, const Plan& plan, const Machine& machine, const Stream& stream, Work& work,
             const Tensor& like, bool gradient, int64_t samples) {
  const int64_t count = work.stop - work.start;
  const Division division = divide(plan, machine, work.cloud, work.start, work.stop, gradient, samples);
  samples = division.samples;
  work.slabs = plan.slabs;
  work.middle = division.middle;
  work.share = division.share;
  work.splits = division.splits;
  work.teams = plan.teams;
  work.stages = plan.stages;
  work.limit = plan.limit;
  work.low = plan.low;
  work.coarse = plan.coarse;
  work.whole = count == points.rows;
  Workspace space{like, {}};
  const bool split = division.splits > 1;
  const int64_t real = plan.float64 ? 8 : 4;
  work.u_sums = split || !gradient ? space.take<double>(samples * division.splits * count) : work.dw;
  work.q_sums = split || !gradient ? space.take<double>(samples * division.splits * count) : work.dh;
  work.forces = gradient && split ? space.take<char>(samples * division.splits * count * points.dim * real) : nullptr;
  work.parts = space.take<double>(samples * division.blocks);
  work.counters = division.blocks + 1;
  work.tickets = space.take<int>(samples * work.counters);
  if (plan.prepared) {
    work.singles = {nullptr, division.padded, plan.slabs.width, plan.halves ? plan.slabs.width : 0};
    work.singles.start = space.take<float>(samples * work.singles.size());
    work.widths = space.take<double>(samples * division.padded);
    const int64_t bytes = samples * division.sources * bytes_of_source(plan);
    work.halves = plan.halves ? reinterpret_cast<uint16_t*>(space.take<char>(bytes)) : nullptr;
  }
  for (Index offset = 0; offset < division.padded; offset += division.sources) {
    work.offset = offset;
    work.length = std::min(division.sources, division.padded - offset);
    work.first = offset == 0;
    work.last = offset + division.sources >= division.padded;
    if (plan.prepared) {
      launch(prepare_kernel(), division.padded / PREPARED, 1, samples, PREPARERS, prepare_bytes(work.cloud.dim), stream,
             work);
    } else {
      stream.set_to_zero(work.tickets, samples * work.counters * sizeof(int));
    }
    launch(plan.kernel, division.blocks, division.splits, samples, plan.threads, plan.shared, stream, work);
  }
  return samples;
}

EnergyAndGradient evaluate(const Tensor& z, const Tensor& means, const Tensor& h, const Tensor& w, int64_t start,
                           int64_t stop, std::string precision, std::string phi, bool gradient) {
  const Samples samples = check_samples(z, means, h, w, start, stop);
  const Points& points = samples.points;
  STD_TORCH_CHECK(Stream::serves(z), "z, means, h and w must be CUDA tensors");
  STD_TORCH_CHECK(precision == "highest" || precision == "high" || precision == "medium", "precision='", precision,
                  "', expected 'highest', 'high' or 'medium'");
  STD_TORCH_CHECK(points.dim <= MOST_DIMENSIONS && points.rows <= MOST_POINTS, points.rows, " points of ", points.dim,
                  " dimensions are too many, expected 2^30 points of 2^22 dimensions at most");
  const Stream stream(z);
  EnergyAndGradient results = make_results(samples, start, gradient ? stop : start, z);
  const auto& [energy, dz, dmeans, dh, dw] = results;
  if (stop == start || samples.count == 0) {
    if (samples.count > 0) stream.set_to_zero(energy.mutable_data_ptr(), samples.count * sizeof(double));
    return results;
  }
  Work work{};
  work.cloud = {points.first,
                points.second,
                static_cast<const double*>(h.const_data_ptr()),
                static_cast<const double*>(w.const_data_ptr()),
                static_cast<Index>(points.first_rows),
                static_cast<Index>(points.rows),
                static_cast<int>(points.dim),
                points.kind};
  work.start = static_cast<Index>(start);
  work.stop = static_cast<Index>(stop);
  work.dz = dz.mutable_data_ptr();
  work.dmeans = dmeans.mutable_data_ptr();
  work.dh = static_cast<double*>(dh.mutable_data_ptr());
  work.dw = static_cast<double*>(dw.mutable_data_ptr());
  work.energy = static_cast<double*>(energy.mutable_data_ptr());
  const Machine machine = stream.machine();
  const bool exact = is_exact(phi);
  Plan plan = make_plan(machine, points.dim, points.kind, precision, gradient, exact);
  const Form form = form_of(points.dim, exact, plan.float64);
  plan.limit = static_cast<float>(resolved(form, points.dim, plan.limit));
  take_form(form, plan.float64, work);
  for (int64_t left = samples.count; left > 0;) {
    const int64_t done = fill(points, plan, machine, stream, work, z, gradient, left);
    move_on(work, done);
    left -= done;
  }
  return results;
}

}  // namespace
}  // namespace segma::cuda

SEGMA_DEFINE(library) {
  library.def(
      "cuda_kernels(Tensor z, Tensor means, Tensor h, Tensor w, SymInt start, SymInt stop, str precision, str phi, "
      "bool "
      "gradient)"
      " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}
SEGMA_IMPLEMENT(SEGMA_GPU_KEY, library) {
  library.impl("cuda_kernels", TORCH_BOX(&segma::cuda::evaluate));
}
