"""The models with and without each departure from their papers that was cured, on MNIST with 100 labels.

``python -m benchmarks.studies.cures --dataset ./mnist`` trains the rows of a model for the same epochs on the same
seeds; errors and likelihoods go into docs/other_models.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.report.tables import put_into, table
from benchmarks.studies.trained import FIRST_SEED, OTHER_MODELS, every_seed, finish_all, flags
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.data import load_data
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.tables import Result, spread
from segma_fast.trainer.metrics import ImportanceSampling
from segma_fast.trainer.models.cagem import CaGeM
from segma_fast.trainer.run import load_run

MARKS = ("<!-- cures -->", "<!-- end of cures -->")
UPPER_IMAGES = 2000  # test images whose upper layer is looked at
NARROW = {"hidden": (256, 256), "epochs": 6, "warm_up": 0, "batch_norm": False}  # half of the time of a step
ALIVE = {"warm_up": 1800, "batch_norm": True}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "M2, labelled bound with weight 1": ("m2", {"epochs": 15, "learning_rate": 3e-4, "labelled_weight": 1.0}),
    "M2, with the share of labelled rows": ("m2", {"epochs": 15, "learning_rate": 3e-4}),
    "M2, and a learning rate of 1e-3": ("m2", {"epochs": 15}),
    "M1+M2, both to the end": ("m1m2", {"epochs": 20, "first_steps": None}),
    "M1+M2, M1 for half of the steps": ("m1m2", {"epochs": 20, "first_steps": 6000}),
    "ADGM, labelled bound with weight 1": ("adgm", NARROW | {"epochs": 10, "labelled_weight": 1.0}),
    "ADGM, with the share of labelled rows": ("adgm", NARROW | {"epochs": 10}),
    "ADGM, and warm-up and batch norm": ("adgm", NARROW | ALIVE | {"epochs": 10}),
    "CaGeM, labelled bound with weight 1": ("cagem", NARROW | {"labelled_weight": 1.0}),
    "CaGeM, with the share of labelled rows": ("cagem", NARROW),
    "CaGeM, and warm-up and batch norm": ("cagem", NARROW | ALIVE),
    "CaGeM without labels": ("cagem", NARROW | {"labels": 0}),
    "CaGeM without labels, batch norm": ("cagem", NARROW | {"labels": 0, "batch_norm": True}),
    "CaGeM without labels, warm-up": ("cagem", NARROW | {"labels": 0, "warm_up": 1800}),
    "CaGeM without labels, warm-up and batch norm": ("cagem", NARROW | {"labels": 0} | ALIVE),
}


def study(dataset: str, seeds: int, out: Path) -> list[tuple[str, Trial]]:
    """Every row with every seed, all rows of one seed first."""
    shared = {"dataset": dataset, "device": "cpu", "checkpoint_every": 3000}
    settings = {
        name: starting_config("mnist", None, model).with_options(**shared, **changes)
        for name, (model, changes) in ROWS.items()
    }
    return every_seed(settings, range(FIRST_SEED, FIRST_SEED + seeds), out)


def top_divergence(result: Result) -> float:
    """How far the upper layer of a trained CaGeM is from its prior on test images, in nats; NaN for other models."""
    run = load_run(result.trial.config.run_dir)
    if not isinstance(run.model, CaGeM):
        return math.nan
    images = load_data(run.config.data).test_images[:UPPER_IMAGES]
    return run.model.top_divergence(images, torch.Generator().manual_seed(0)).mean().item()


def rendered(results: dict[str, list[Result]], divergences: dict[Path, float]) -> str:
    """A row per change: both classifiers' errors, log p(x), and the divergence of each run's upper layer, in nats."""
    rows = []
    for name, own in results.items():
        scores = [result.scores for result in own if result.scores is not None]
        if not scores:
            continue
        others = [100 * next(iter(s.other_errors.values())) for s in scores if s.other_errors]
        cells = [spread([100 * s.test_error for s in scores]), spread(others) if others else "–"]
        epochs = str(own[0].trial.config.epochs)
        upper = [found for r in own if math.isfinite(found := divergences.get(r.trial.config.run_dir, math.nan))]
        cells += [spread([s.log_likelihood for s in scores]), spread(upper) if upper else "–"]
        rows.append([name, epochs, *cells, str(len(scores))])
    likelihood, upper_layer = "log p(x) ≥, nats", "upper layer, nats"
    head = ["", "epochs", "test error, %", "by the second classifier", likelihood, upper_layer, "seeds"]
    return table(head, rows)


def main() -> None:
    options = flags(__doc__, "runs/cures", seeds=2).parse_args()
    planned = study(options.dataset, options.seeds, options.out)
    results: dict[str, list[Result]] = {name: [] for name in ROWS}
    divergences: dict[Path, float] = {}
    for name, result in finish_all(planned, options.workers, ImportanceSampling()):
        results[name].append(result)
        if result.scores is not None:
            divergences[result.trial.config.run_dir] = top_divergence(result)
        put_into(OTHER_MODELS, rendered(results, divergences), MARKS)


if __name__ == "__main__":
    main()
