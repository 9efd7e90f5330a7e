"""``python -m benchmarks.gpu.training --out FOLDER`` times training on a GPU: SeGMA's step, and the trainer itself.

Leaves ``training.json``: with each backend the seconds of a step and the distance's share in them; then what ``train``
reaches on a data set with the paper's batches, eagerly, compiled, and in several processes at once on the one GPU.
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
from segma_fast.trainer.data import DataConfig
from segma_fast.trainer.files import write_text

BATCHES = (256, 1024, 4096, 16384, 65536)
LARGEST = {"reference": 16384}  # rows of a batch
EPOCHS = 500  # of the paper
WAYS = {"eager": (1, []), "compiled": (1, ["--compile"]), "eager, 4 at once": (4, [])}
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
                print(f"{record['contender']} {batch}: {1e3 * record['median_s']:.3g} ms, share {record['share']:.0%}")
    return found


def one_training(dataset: str, seconds: float, compiled: bool, seed: int) -> dict[str, Any]:
    """``train`` for some time with the authors' settings."""
    from segma_fast.trainer.config import starting_config
    from segma_fast.trainer.loop import train

    config = starting_config("mnist", "authors")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data = DataConfig(dataset=dataset, cache=place / "cache")
        run = {"data": data, "run_dir": place / "run", "minutes": seconds / 60, "epochs": EPOCHS}
        config = replace(config, compile=compiled, seed=seed, **run)
        outcome = train(config)
    per_epoch = outcome.seconds_per_step * outcome.steps / outcome.epochs
    return {
        "steps": outcome.steps,
        "epochs": outcome.epochs,
        "ms_per_step": 1e3 * outcome.seconds_per_step,
        "minutes_for_500_epochs": EPOCHS * per_epoch / 60,
        "test_error": outcome.evaluation.test_error,
        "batch_size": config.batch_size,
        "labelled_batch_size": config.labelled_batch_size,
    }


def trainings(dataset: str, seconds: float, log: Path) -> dict[str, list[dict[str, Any] | str]]:
    """The same in processes of their own, as many at once as a way says."""
    found: dict[str, list[dict[str, Any] | str]] = {}
    for way, (processes, options) in WAYS.items():
        limit = seconds + COMPILATION * ("--compile" in options)
        command = [sys.executable, "-m", "benchmarks.gpu.training", "--dataset", dataset, "--seconds", str(limit)]
        running = [
            subprocess.Popen(
                [*command, "--one", str(seed), *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for seed in range(processes)
        ]
        said = [process.communicate()[0] for process in running]
        with open(log, "a", encoding="utf-8") as file:
            file.writelines(said)
        found[way] = [
            json.loads(text.splitlines()[-1]) if process.returncode == 0 else " ".join(text.split())[-300:]
            for process, text in zip(running, said, strict=True)
        ]
        print(f"{way}: {found[way]}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="time training on a GPU")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dataset", default="digits", help="as segma-fast train takes it")
    parser.add_argument("--seconds", type=float, default=15.0, help="of one training; of all steps twice that")
    parser.add_argument("--one", type=int, help="a training alone, with this seed")
    parser.add_argument("--compile", action="store_true", help="of the training alone")
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(one_training(options.dataset, options.seconds, options.compile, options.one)))
        return
    if options.out is None:
        parser.error("--out FOLDER is missing")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": describe_machine(device), "dataset": Path(options.dataset).name}
    found["steps"] = steps(device, 2 * options.seconds)
    found["trainings"] = trainings(options.dataset, options.seconds, options.out / "training.log")
    write_text(options.out / "training.json", json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
