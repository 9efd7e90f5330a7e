"""``python -m benchmarks.gpu.stages [STAGE ...] --seconds 300 --out FOLDER``: a GPU's minutes, what matters most first.

Stages: ``build`` (takes what ``pack.py`` packed where it loads, else builds), ``smoke`` (every kind of kernel
against float64), ``times`` (the sizes of the goals), ``tests``, ``tune`` (shapes of Triton's blocks), ``counters`` (of
the hardware), ``bench`` (all peers), ``train``. A stage that what is left of the seconds does not suffice for is left
out. Cases and tests run in processes of their own: an illegal access or a hang costs one of them. One line a case is
printed; the folder gets ``log.txt`` with all that the failed ones said, ``stages.json`` with the figures, and what
``bench.py`` leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from benchmarks import RESULTS, ROOT
from benchmarks.gpu.cases import BACKENDS, CASES, title
from benchmarks.gpu.pack import CACHE
from benchmarks.gpu.supervisor import PACK, Visit

CHECKER = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
HIDDEN = ("same_bits", "wrong")
CASE = [sys.executable, "-m", "benchmarks.gpu.cases"]


@dataclass(frozen=True)
class Limits:
    """Seconds without which a stage is not begun, and the most that it takes."""

    least: float
    most: float


LIMITS = {
    "build": Limits(0, 170),
    "smoke": Limits(25, 90),
    "times": Limits(30, 80),
    "tests": Limits(40, 150),
    "counters": Limits(30, 60),
    "tune": Limits(30, 70),
    "bench": Limits(60, 210),
    "train": Limits(60, 200),
}
FIRST = ("build", "smoke", "times", "tests")  # of a GPU that has seen nothing


def build(visit: Visit, seconds: float) -> None:
    """The compiled module: the packed one if it loads, else made here; a failure is one, not a reason to skip."""
    code = (
        "import json, torch, segma_fast; from segma_fast.distance.backends import cuda, extension; "
        "from segma_fast.bench.machine import describe_machine; "
        "assert extension.REASON is None, extension.REASON; "
        f"assert {visit.device!r} == 'cpu' or cuda.missing() is None, cuda.missing(); "
        f"print(json.dumps(describe_machine(torch.device({visit.device!r})) | {{'build': extension.build_info()}}))"
    )
    check = [sys.executable, "-c", code]
    for module in PACK.glob("_C*.so"):
        shutil.copy2(module, ROOT / "segma_fast")
    if (packed := PACK / "triton.tar.xz").exists() and not CACHE.exists():
        with tarfile.open(packed) as archive:
            archive.extractall(CACHE, filter="data")
    if wheels := sorted(map(str, PACK.glob("wheels/*.whl"))):
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", "--target"]
        visit.command([*command, str(visit.work / "packages"), *wheels], 60, "wheels")
    status, said = visit.command(check, 60, "check")
    built = ""
    if status != 0:
        for module in (ROOT / "segma_fast").glob("_C*.so"):
            module.unlink()
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        options = {"SEGMA_FAST_REQUIRE_NATIVE": "1", "TORCH_CUDA_ARCH_LIST": capability()}
        status, built = visit.command(command, seconds, "build", **options)
        if status == 0:
            status, said = visit.command(check, 60, "check")
    if status != 0:
        visit.faults.append("build")
        visit.keep(built)
        return visit.say(f"build: FAILED ({status})\n" + "\n".join((built + said).splitlines()[-15:]))
    visit.figures["machine"] = json.loads(said.splitlines()[-1])
    visit.say(f"build: {'made here' if built else 'the module that is there loads'}")


def capability() -> str:
    import torch

    if not torch.cuda.is_available():
        return os.environ.get("TORCH_CUDA_ARCH_LIST", "9.0a")
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}" + "a" * ((major, minor) == (9, 0))


def judge(visit: Visit, case: dict[str, Any], seconds: float, name: str) -> tuple[str, dict[str, Any]]:
    """A state (ok, WRONG, RACE, CRASH or HANG) and the figures of a case in a process of its own."""
    lock = str(visit.work / "lock")
    command = [*CASE, json.dumps(case | {"device": visit.device}), lock]
    begin = time()
    status, text = visit.command(command, seconds, name)
    line = next((line for line in text.splitlines()[::-1] if line.startswith('{"first_s"')), None)
    found = json.loads(line) if line and status == 0 else {}
    if found:
        state = "WRONG" if found["wrong"] else "ok" if found["same_bits"] else "RACE"
    else:
        state = "CRASH" if status != "HANG" else "HANG" if seconds >= visit.longest else "left"
        found = {"said": " ".join((text.strip().splitlines() or ["nothing"])[-1].split())[-160:], "status": status}
    if state != "ok":
        visit.keep(f"==== {state} {title(case)}\n{text[-8000:]}")
    return state, found | {"seconds": round(time() - begin, 1)}


def show(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) and 0 < abs(value) < 1e-2 else str(value)


def stand_in(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases as a machine without a GPU can try them, after three that fail on purpose."""
    backends = dict(zip(BACKENDS, ("native", "chunked"), strict=True))
    found = [case | {"backend": backends[case["backend"]], "rows": min(case["rows"], 2000)} for case in chosen]
    return [found[0] | {"fault": fault} for fault in ("crash", "hang", "wrong")] + found


def cases(stage: str) -> Callable[[Visit, float], None]:
    """A stage of cases: many processes prepare at once, and one at a time is timed."""

    def perform(visit: Visit, seconds: float) -> None:
        until, done, bad = time() + seconds, [], []
        chosen = [case for case in CASES[stage]() if visit.only in title(case)]
        if visit.device == "cpu":
            chosen = stand_in(chosen)

        def one(number_and_case: tuple[int, dict[str, Any]]) -> None:
            number, case = number_and_case
            left = until - time()
            if left < 5:
                return visit.say(f"left  {title(case)}")
            state, found = judge(visit, case, min(visit.longest, left), f"{stage}-{number:02d}")
            done.append(case | {"state": state} | found)
            if state not in ("ok", "left"):
                bad.append((number, case))
                visit.faults.append(f"{state} {title(case)}")
            numbers = " ".join(f"{k}={show(v)}" for k, v in found.items() if k not in HIDDEN and v is not None)
            visit.say(f"{state:5s} {title(case)}: {numbers}" + (f" {found['wrong']}" if state == "WRONG" else ""))

        with ThreadPoolExecutor(visit.workers) as pool:
            list(pool.map(one, enumerate(chosen)))
        visit.figures[stage] = done
        states = [entry["state"] for entry in done]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        visit.say(f"{stage}: {counts}; {len(chosen) - len(done)} left out")
        for number, case in bad[:2] if stage == "smoke" and CHECKER and visit.device == "cuda" else ():
            memory_check(visit, case, f"{stage}-{number:02d}-memcheck", min(50.0, until + 30 - time()))

    return perform


def memory_check(visit: Visit, case: dict[str, Any], name: str, seconds: float) -> None:
    """Where a case reads or writes what it may not."""
    command = [str(CHECKER), "--tool", "memcheck", "--print-limit", "3", *CASE]
    _, text = visit.command([*command, json.dumps(case)], seconds, name, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    said = [line for line in text.splitlines() if line.startswith("====")]
    visit.keep("\n".join(said))
    visit.say(f"memcheck {title(case)}: {' | '.join(said)[:500]}")


def tests(visit: Visit, seconds: float) -> None:
    """The tests that need a GPU, each backend in a run of its own, side by side, without memory checkers."""

    def one(backend: str) -> None:
        command = [sys.executable, "-m", "pytest", "-p", "benchmarks.gpu.lost_context"]
        command += ["tests/gpu/test_gpu.py", "tests/gpu/test_cuda.py", "tests/gpu/test_gpu_tools.py"]
        command += ["-k", f"{backend} and not checkers", "-rfE", "--tb=short"]
        command += ["-n", str(max(1, visit.workers // len(BACKENDS))), "--dist", "load", "--max-worker-restart", "20"]
        command += ["--timeout", "60", "--timeout-method", "thread"]
        status, text = visit.command(command, seconds, f"tests-{backend}", OUT=str(visit.work))
        pytest_said(visit, f"tests of {backend}", status, text)

    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        list(pool.map(one, BACKENDS))
    if (lost := visit.work / "lost.log").exists():
        visit.keep(lost.read_text(encoding="utf-8", errors="replace"))


def pytest_said(visit: Visit, name: str, status: int | str, text: str) -> None:
    visit.keep(text[-60000:])
    lines = text.splitlines()
    failed = [line[:170] for line in lines if line.startswith(("FAILED", "ERROR"))]
    counted = [line for line in lines if re.search(r"\d (passed|failed)", line)]
    summary = (counted or lines or ["nothing was said"])[-1].strip("= ")
    if status != 0:
        visit.faults.append(f"{name}: {status}")
    visit.figures[name] = summary
    visit.say("\n  ".join([f"{name}: {status}, {summary[:200]}", *failed[:15]]))


def bench(visit: Visit, seconds: float) -> None:
    """All peers at all sizes, in turns; a size that ends the process costs that size."""
    until, begin, because = time() + seconds, 0, ""
    while (left := until - time()) > 30:
        command = [sys.executable, "-m", "benchmarks.gpu.bench", "--out", str(visit.out), "--device", visit.device]
        command += ["--seconds", str(int(left - 20)), "--begin", str(begin), "--because", because]
        status, text = visit.command(command, left, f"bench-{begin}")
        visit.keep(text[-60000:])
        visit.say(f"bench from case {begin}: {status}")
        if status == 0:
            return
        visit.faults.append(f"bench from case {begin}: {status}")
        because = f"the process ended ({status}): {(text.strip().splitlines() or ['nothing was said'])[-1][-200:]}"
        begin += text.count("== done:") + 1


def counters(visit: Visit, seconds: float) -> None:
    """What the hardware counts in our kernels at 65536 codes of 64 coordinates: high, medium, highest."""
    code = "import json; from benchmarks.gpu.counters import counters; "
    code += f"print(json.dumps(counters({list(BACKENDS)}, seconds={seconds - 5})))"
    status, text = visit.command([sys.executable, "-c", code], seconds, "counters")
    if status != 0:
        visit.faults.append(f"counters: {status}")
        return visit.say(f"counters: {status}, {text[-300:]}")
    found = visit.figures["counters"] = json.loads(text.splitlines()[-1])
    for line in [found] if isinstance(found, str) else found:
        visit.say(line if isinstance(line, str) else "  ".join(line))


def train(visit: Visit, seconds: float) -> None:
    """A training step on a GPU: what waits for the device, what is compiled, and how long steps and trainings take."""
    until = time() + seconds
    command = [sys.executable, "-m", "pytest", "tests/gpu/test_gpu_training.py", "-rfE", "--tb=short"]
    pytest_said(visit, "training", *visit.command(command, seconds, "train"))
    data = next((str(path.parent) for path in PACK.glob("*/*.parquet")), "digits")
    command = [sys.executable, "-m", "benchmarks.gpu.training", "--out", str(visit.out), "--dataset", data]
    status, text = visit.command([*command, "--seconds", "10", "--step-seconds", "20"], until - time(), "training")
    if status != 0:
        visit.faults.append(f"trainings: {status}")
        visit.keep(text[-20000:])
    visit.say("\n".join([f"trainings: {status}", *(line[:400] for line in text.splitlines()[-16:])]))


STAGES = {
    "build": build,
    "smoke": cases("smoke"),
    "times": cases("times"),
    "tests": tests,
    "counters": counters,
    "tune": cases("tune"),
    "bench": bench,
    "train": train,
}


def perform(visit: Visit, stages: Sequence[str]) -> None:
    for stage in stages:
        limits = LIMITS[stage]
        if visit.left < limits.least:
            visit.say(f"== {stage}: left out, {visit.left:.0f} s are left of {visit.seconds:.0f}")
            continue
        visit.say(f"== {time() - visit.started:.0f} s: {stage}")
        STAGES[stage](visit, min(limits.most, visit.left))
        visit.save()
    visit.say(
        f"== {time() - visit.started:.0f} s of {visit.seconds:.0f}; " + ("; ".join(visit.faults[:30]) or "no fault")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="the minutes of a GPU: smoke, times, tests, tune, bench, train")
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help=f"default: {' '.join(FIRST)}")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu")
    parser.add_argument("--seconds", type=float, default=300.0, help="of all stages")
    parser.add_argument("--device", default="cuda", help="cpu tries the stages without a GPU")
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1))
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    options = parser.parse_args(arguments)
    visit = Visit(options.out.resolve(), options.seconds, options.device, options.workers, options.only)
    perform(visit, options.stages or FIRST)
    return bool(visit.faults)


if __name__ == "__main__":
    sys.exit(main())
