"""``python benchmarks/gpu_stages.py [STAGE ...] --seconds 300 --out FOLDER``: a GPU's minutes, what matters most first.

Stages: ``build`` (takes what ``gpu_pack.py`` packed where it loads, else builds), ``smoke`` (every kind of kernel
against float64), ``times`` (the sizes of the goals), ``tests``, ``tune`` (shapes of Triton's blocks), ``counters`` (of
the hardware), ``bench`` (all peers), ``train``. A stage that what is left of the seconds does not suffice for is left
out. Cases and tests run in processes of their own: an illegal access or a hang costs one of them. One line a case is
printed; the folder gets ``log.txt`` with all that the failed ones said, ``stages.json`` with the figures, and what
``gpu.py`` leaves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

from gpu_cases import BACKENDS, CASES, title
from gpu_pack import CACHE

HERE = Path(__file__).parent
ROOT = HERE.parent
PACK = ROOT / ".gpu"  # what gpu_pack.py leaves
CHECKER = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
ERRORS = ("value", "grad_z", "grad_means")
HIDDEN = ("same_bits", "wrong")


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
    "bench": Limits(60, 170),
    "train": Limits(30, 90),
}
FIRST = ("build", "smoke", "times", "tests")  # of a GPU that has seen nothing


class Run:
    """One visit to a GPU: its clock, its folders, and what it found."""

    def __init__(self, out: Path, seconds: float, device: str, workers: int, only: str) -> None:
        self.out, self.device, self.workers, self.only = out, device, workers, only
        self.started, self.seconds = time(), seconds
        self.longest = 90.0 if device == "cuda" else 10.0  # seconds of a case, with its turn at the GPU
        self.faults: list[str] = []
        self.figures: dict[str, Any] = {}
        self.work = Path(tempfile.mkdtemp(prefix="segma_fast_gpu_"))  # logs of single cases, and the peers
        out.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(map(str, (ROOT, HERE, self.work / "packages")))
        self.variables = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "2"}
        if (PACK / "triton.tar.xz").exists():
            self.variables["TRITON_CACHE_DIR"] = str(CACHE)

    @property
    def left(self) -> float:
        return self.seconds - (time() - self.started)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self.keep(text)

    def keep(self, text: str) -> None:
        with open(self.out / "log.txt", "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def save(self) -> None:
        text = json.dumps(self.figures | {"faults": self.faults}, indent=1)
        (self.out / "stages.json").write_text(text + "\n", encoding="utf-8")

    def command(self, arguments: Sequence[str], seconds: float, name: str, **variables: str) -> tuple[int | str, str]:
        """Run a program; its status, "HANG" where it was killed with its children, and what it said."""
        log = self.work / name
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=self.variables | variables, stdout=file, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            status: int | str
            try:
                status = process.wait(max(1.0, seconds))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = "HANG"
        return status, log.read_text(encoding="utf-8", errors="replace")


def build(run: Run, seconds: float) -> None:
    """The compiled module: the packed one if it loads, else made here; a failure is one, not a reason to skip."""
    code = (
        "import json, torch, segma_fast; from segma_fast.backends import cuda, native; "
        "from segma_fast.bench.machine import describe_machine; "
        "assert native.REASON is None, native.REASON; "
        f"assert {run.device!r} == 'cpu' or cuda.missing() is None, cuda.missing(); "
        f"print(json.dumps(describe_machine(torch.device({run.device!r})) | {{'build': native.build_info()}}))"
    )
    check = [sys.executable, "-c", code]
    for module in PACK.glob("_C*.so"):
        shutil.copy2(module, ROOT / "segma_fast")
    if (packed := PACK / "triton.tar.xz").exists() and not CACHE.exists():
        with tarfile.open(packed) as archive:
            archive.extractall(CACHE, filter="data")
    if wheels := sorted(map(str, PACK.glob("wheels/*.whl"))):
        command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet", "--target"]
        run.command([*command, str(run.work / "packages"), *wheels], 60, "wheels")
    status, said = run.command(check, 60, "check")
    built = ""
    if status != 0:
        for module in (ROOT / "segma_fast").glob("_C*.so"):
            module.unlink()
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        options = {"SEGMA_FAST_REQUIRE_NATIVE": "1", "TORCH_CUDA_ARCH_LIST": capability()}
        status, built = run.command(command, seconds, "build", **options)
        if status == 0:
            status, said = run.command(check, 60, "check")
    if status != 0:
        run.faults.append("build")
        run.keep(built)
        return run.say(f"build: FAILED ({status})\n" + "\n".join((built + said).splitlines()[-15:]))
    run.figures["machine"] = json.loads(said.splitlines()[-1])
    run.say(f"build: {'made here' if built else 'the module that is there loads'}")


def capability() -> str:
    import torch

    if not torch.cuda.is_available():
        return os.environ.get("TORCH_CUDA_ARCH_LIST", "9.0a")
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}" + "a" * ((major, minor) == (9, 0))


def judge(run: Run, case: dict[str, Any], seconds: float, name: str) -> tuple[str, dict[str, Any]]:
    """A state (ok, WRONG, RACE, CRASH or HANG) and the figures of a case in a process of its own."""
    lock = str(run.work / "lock")
    command = [sys.executable, str(HERE / "gpu_cases.py"), json.dumps(case | {"device": run.device}), lock]
    begin = time()
    status, text = run.command(command, seconds, name)
    line = next((line for line in text.splitlines()[::-1] if line.startswith('{"first_s"')), None)
    found = json.loads(line) if line and status == 0 else {}
    if found:
        state = "WRONG" if found["wrong"] else "ok" if found["same_bits"] else "RACE"
    else:
        state = "CRASH" if status != "HANG" else "HANG" if seconds >= run.longest else "left"
        found = {"said": " ".join((text.strip().splitlines() or ["nothing"])[-1].split())[-160:], "status": status}
    if state != "ok":
        run.keep(f"==== {state} {title(case)}\n{text[-8000:]}")
    return state, found | {"seconds": round(time() - begin, 1)}


def show(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) and 0 < abs(value) < 1e-2 else str(value)


def stand_in(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases as a machine without a GPU can try them, after three that fail on purpose."""
    backends = dict(zip(BACKENDS, ("native", "chunked"), strict=True))
    found = [case | {"backend": backends[case["backend"]], "rows": min(case["rows"], 2000)} for case in chosen]
    return [found[0] | {"fault": fault} for fault in ("crash", "hang", "wrong")] + found


def cases(stage: str) -> Callable[[Run, float], None]:
    """A stage of cases: many processes prepare at once, and one at a time is timed."""

    def perform(run: Run, seconds: float) -> None:
        until, done, bad = time() + seconds, [], []
        chosen = [case for case in CASES[stage]() if run.only in title(case)]
        if run.device == "cpu":
            chosen = stand_in(chosen)

        def one(number_and_case: tuple[int, dict[str, Any]]) -> None:
            number, case = number_and_case
            left = until - time()
            if left < 5:
                return run.say(f"left  {title(case)}")
            state, found = judge(run, case, min(run.longest, left), f"{stage}-{number:02d}")
            done.append(case | {"state": state} | found)
            if state not in ("ok", "left"):
                bad.append((number, case))
                run.faults.append(f"{state} {title(case)}")
            numbers = " ".join(f"{k}={show(v)}" for k, v in found.items() if k not in HIDDEN and v is not None)
            run.say(f"{state:5s} {title(case)}: {numbers}" + (f" {found['wrong']}" if state == "WRONG" else ""))

        with ThreadPoolExecutor(run.workers) as pool:
            list(pool.map(one, enumerate(chosen)))
        run.figures[stage] = done
        states = [entry["state"] for entry in done]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        run.say(f"{stage}: {counts}; {len(chosen) - len(done)} left out")
        for number, case in bad[:2] if stage == "smoke" and CHECKER and run.device == "cuda" else ():
            memory_check(run, case, f"{stage}-{number:02d}-memcheck", min(50.0, until + 30 - time()))

    return perform


def memory_check(run: Run, case: dict[str, Any], name: str, seconds: float) -> None:
    """Where a case reads or writes what it may not."""
    command = [str(CHECKER), "--tool", "memcheck", "--print-limit", "3", sys.executable, str(HERE / "gpu_cases.py")]
    _, text = run.command([*command, json.dumps(case)], seconds, name, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
    said = [line for line in text.splitlines() if line.startswith("====")]
    run.keep("\n".join(said))
    run.say(f"memcheck {title(case)}: {' | '.join(said)[:500]}")


def tests(run: Run, seconds: float) -> None:
    """The tests that need a GPU, each backend in a run of its own, side by side, without memory checkers."""

    def one(backend: str) -> None:
        command = [sys.executable, "-m", "pytest", "-p", "gpu_lost", "tests/test_gpu.py", "tests/test_cuda.py"]
        command += ["tests/test_gpu_tools.py", "-k", f"{backend} and not checkers", "-q", "-rfE", "--tb=short"]
        command += ["-n", str(max(1, run.workers // len(BACKENDS))), "--dist", "load", "--max-worker-restart", "20"]
        command += ["--timeout", "60", "--timeout-method", "thread"]
        status, text = run.command(command, seconds, f"tests-{backend}", OUT=str(run.work))
        pytest_said(run, f"tests of {backend}", status, text)

    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        list(pool.map(one, BACKENDS))
    if (lost := run.work / "lost.log").exists():
        run.keep(lost.read_text(encoding="utf-8", errors="replace"))


def pytest_said(run: Run, name: str, status: int | str, text: str) -> None:
    run.keep(text[-60000:])
    lines = text.splitlines()
    failed = [line[:170] for line in lines if line.startswith(("FAILED", "ERROR"))]
    summary = next((line for line in lines[::-1] if " passed" in line or " failed" in line), (lines or [""])[-1])
    if status != 0:
        run.faults.append(f"{name}: {status}")
    run.figures[name] = summary
    run.say("\n  ".join([f"{name}: {status}, {summary[:200]}", *failed[:15]]))


def bench(run: Run, seconds: float) -> None:
    """All peers at all sizes, in turns; a size that ends the process costs that size."""
    until, begin, because = time() + seconds, 0, ""
    while (left := until - time()) > 30:
        command = [sys.executable, str(HERE / "gpu.py"), "--out", str(run.out), "--device", run.device]
        command += ["--seconds", str(int(left - 20)), "--begin", str(begin), "--because", because]
        status, text = run.command(command, left, f"bench-{begin}")
        run.keep(text[-60000:])
        run.say(f"bench from case {begin}: {status}")
        if status == 0:
            return
        run.faults.append(f"bench from case {begin}: {status}")
        because = f"the process ended ({status}): {(text.strip().splitlines() or ['nothing was said'])[-1][-200:]}"
        begin += text.count("== done:") + 1


def counters(run: Run, seconds: float) -> None:
    """What the hardware counts in our kernels at 65536 codes of 64 coordinates: high, medium, highest."""
    code = f"import json, gpu_counters as g; print(json.dumps(g.counters({list(BACKENDS)}, seconds={seconds - 5})))"
    status, text = run.command([sys.executable, "-c", code], seconds, "counters")
    if status != 0:
        run.faults.append(f"counters: {status}")
        return run.say(f"counters: {status}, {text[-300:]}")
    found = run.figures["counters"] = json.loads(text.splitlines()[-1])
    for line in [found] if isinstance(found, str) else found:
        run.say(line if isinstance(line, str) else "  ".join(line))


def train(run: Run, seconds: float) -> None:
    """A training step on a GPU: what waits for the device, and what is compiled."""
    command = [sys.executable, "-m", "pytest", "tests/test_gpu_training.py", "-q", "-rfE", "--tb=short"]
    pytest_said(run, "training", *run.command(command, seconds, "train"))


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


def perform(run: Run, stages: Sequence[str]) -> None:
    for stage in stages:
        limits = LIMITS[stage]
        if run.left < limits.least:
            run.say(f"== {stage}: left out, {run.left:.0f} s are left of {run.seconds:.0f}")
            continue
        run.say(f"== {time() - run.started:.0f} s: {stage}")
        STAGES[stage](run, min(limits.most, run.left))
        run.save()
    run.say(f"== {time() - run.started:.0f} s of {run.seconds:.0f}; " + ("; ".join(run.faults[:30]) or "no fault"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="the minutes of a GPU: smoke, times, tests, tune, bench, train")
    parser.add_argument("stages", nargs="*", choices=[*STAGES, []], help=f"default: {' '.join(FIRST)}")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu")
    parser.add_argument("--seconds", type=float, default=300.0, help="of all stages")
    parser.add_argument("--device", default="cuda", help="cpu tries the stages without a GPU")
    parser.add_argument("--workers", type=int, default=min(12, os.cpu_count() or 1))
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    options = parser.parse_args(arguments)
    run = Run(options.out.resolve(), options.seconds, options.device, options.workers, options.only)
    perform(run, options.stages or FIRST)
    return bool(run.faults)


if __name__ == "__main__":
    sys.exit(main())
