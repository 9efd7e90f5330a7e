"""``python -m benchmarks.gpu.training --out FOLDER`` times training on a GPU: SeGMA's step, and the trainer itself.

Leaves ``training.json``: what ``train`` reaches in some seconds on a data set with the paper's batches, in a CUDA
graph, launched kernel by kernel, compiled, and in several processes at once on the one GPU; then the seconds of a step
and the distance's share in them, with the backend of ``"auto"`` and with plain torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.suites.segma_step import measure
from segma_fast.bench.machine import describe_machine
from segma_fast.distance.dispatch import choose_backend
from segma_fast.trainer.data import DataConfig, load_data
from segma_fast.trainer.files import write_text

BATCHES = (256, 1024, 4096, 16384, 65536)
LARGEST = {"reference": 16384}  # rows of a batch
EPOCHS = 500  # of the paper
WAYS = {"graph": (1, []), "eager": (1, ["--eager"]), "compiled": (1, ["--compile"]), "graph, 4 at once": (4, [])}
COMPILATION = 30.0  # more seconds for a training that is compiled


def steps(device: torch.device, seconds: float) -> list[dict[str, Any]]:
    """Records of the step with the backend that ``"auto"`` takes and with plain torch, up to a time."""
    until, found = perf_counter() + seconds, []
    main = choose_backend("auto", device, torch.float32, 64)
    for batch in BATCHES:
        if perf_counter() < until:
            backends = [name for name in ("reference", main) if batch <= LARGEST.get(name, batch)]
            found += [asdict(record) for record in measure(batch, backends, device)]
            for record in found[-len(backends) :]:
                took, share = 1e3 * record["median_s"], record["share"]
                print(f"{record['contender']} {batch}: {took:.3g} ms, share {share:.0%}", flush=True)
    return found


def one_training(options: argparse.Namespace) -> dict[str, Any]:
    """``train`` for some time with the settings of a preset."""
    from segma_fast.trainer.config import starting_config
    from segma_fast.trainer.loop import train

    with tempfile.TemporaryDirectory() as folder:
        outcome = train(
            replace(
                starting_config("mnist", options.preset),
                data=DataConfig(dataset=options.dataset, cache=options.cache),
                run_dir=Path(folder) / "run",
                minutes=options.seconds / 60,
                compile=options.compile,
                cuda_graph=not options.eager,
                seed=options.one,
                epochs=EPOCHS,
            )
        )
    per_epoch = outcome.seconds_per_step * outcome.steps / outcome.epochs
    return {
        "preset": options.preset,
        "seed": options.one,
        "steps": outcome.steps,
        "epochs": round(outcome.epochs, 2),
        "ms_per_step": round(1e3 * outcome.seconds_per_step, 4),
        "minutes_for_500_epochs": round(EPOCHS * per_epoch / 60, 2),
        "test_error": round(outcome.evaluation.test_error, 4),
    }


def trainings(options: argparse.Namespace) -> dict[str, list[dict[str, Any] | str]]:
    """Trainings in processes of their own, as many at once as a way says."""
    found: dict[str, list[dict[str, Any] | str]] = {}
    for way in options.ways:
        processes, flags = WAYS[way]
        limit = options.seconds + COMPILATION * ("--compile" in flags)
        command = [sys.executable, "-m", "benchmarks.gpu.training", "--dataset", options.dataset, *flags]
        command += ["--seconds", str(limit), "--preset", options.preset, "--cache", str(options.cache)]
        running = [
            subprocess.Popen(
                [*command, "--one", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for seed in range(processes)
        ]
        said = [process.communicate()[0] for process in running]
        with open(options.out / "training.log", "a", encoding="utf-8") as file:
            file.writelines(said)
        found[way] = [
            json.loads(text.splitlines()[-1]) if process.returncode == 0 else " ".join(text.split())[-300:]
            for process, text in zip(running, said, strict=True)
        ]
        for line in found[way]:
            print(f"{way}: {line}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="time training on a GPU")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dataset", default="digits", help="as segma-fast train takes it")
    parser.add_argument("--preset", default="authors", help="of the training's settings")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS), help="of training; default: all")
    parser.add_argument("--seconds", type=float, default=15.0, help="of one training")
    parser.add_argument("--step-seconds", type=float, default=30.0, help="of all steps; 0 leaves them out")
    parser.add_argument("--one", type=int, help="a training alone, with this seed")
    parser.add_argument("--compile", action="store_true", help="of the training alone")
    parser.add_argument("--eager", action="store_true", help="of the training alone: without a CUDA graph")
    parser.add_argument("--cache", type=Path, help="folder of decoded images")
    options = parser.parse_args(arguments)
    if options.one is not None:
        return print(json.dumps(one_training(options)))
    if options.out is None:
        parser.error("--out FOLDER is missing")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": describe_machine(device), "dataset": Path(options.dataset).name}

    def write() -> None:  # a run that is stopped leaves what it has
        write_text(options.out / "training.json", json.dumps(found, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        options.cache = options.cache or Path(folder)
        load_data(DataConfig(dataset=options.dataset, cache=options.cache))  # decoded once for all
        found["trainings"] = trainings(options)
        write()
    found["steps"] = steps(device, options.step_seconds)
    write()


if __name__ == "__main__":
    main()
