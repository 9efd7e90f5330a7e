"""``python -m benchmarks.gpu.kernels 8192,1024 2048,4096`` lists the kernels of a call, and how long each takes.

Value and gradient of the distance to N(0, I) of so many codes and dimensions, γ = 1/2, and a replay in a CUDA graph.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.lineup import in_graph
from segma_fast.bench.contenders import ours
from segma_fast.bench.problems import Case, make_problem
from segma_fast.bench.timing import by_events, synchronize

CALLS = 4
SHORTEST = 1.0  # microseconds a call, below which a kernel is not listed


def kernels(case: Case, backend: str, precision: str, device: torch.device) -> list[str]:
    """A line for the replay, and one for each kernel: microseconds a call, launches a call, microseconds a launch."""
    problem = make_problem(case, device)
    replay = in_graph(problem, precision, backend)
    took = 1e6 * median(by_events(replay, 5, device) for _ in range(5))
    call = ours(problem, backend, precision)
    call()
    synchronize(device)
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(CALLS):
            call()
        synchronize(device)
    lines = [f"{case}, {backend} {precision}: a replay takes {took:.0f} µs"]
    for entry in sorted(found.key_averages(), key=lambda one: -one.self_device_time_total):
        each = entry.self_device_time_total / CALLS
        if entry.device_type == DeviceType.CUDA and each >= SHORTEST:
            launches = entry.count / CALLS
            lines.append(f"  {each:9.1f} µs  {launches:5.1f} ×  {each / launches:8.1f} µs  {entry.key[:100]}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="the kernels of a call on a GPU")
    parser.add_argument("sizes", nargs="*", default=["8192,1024", "2048,4096"], metavar="ROWS,DIM")
    parser.add_argument("--backend", default="triton", choices=["triton", "cuda"])
    parser.add_argument("--precision", default="high")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    for size in options.sizes:
        rows, dim = map(int, size.split(","))
        found = kernels(Case(rows, dim, 1, gamma=0.5), options.backend, options.precision, torch.device("cuda"))
        print("\n".join(found), flush=True)


if __name__ == "__main__":
    main()
