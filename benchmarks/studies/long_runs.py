"""M2, M1+M2, ADGM and CaGeM on MNIST with 100 labels until errors hardly fall: the error on the way, and its cost.

``python -m benchmarks.studies.long_runs --dataset ./mnist`` trains them on one seed, and puts the table into
docs/other_models.md. A stopped study goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report.tables import put_into, table
from benchmarks.studies.trained import FIRST_SEED, OTHER_MODELS, every_seed, finish_all, flags
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.experiments.error_over_epochs import EPOCHS, errors_at
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.tables import Result, spread
from segma_fast.trainer.metrics import ImportanceSampling
from segma_fast.trainer.run_folder import METRICS

MARKS = ("<!-- long-runs -->", "<!-- end of long-runs -->")
LOW = {"mixed_precision": "bf16"}
NARROW = {"hidden": (256, 256)}
AUTHORS: dict[str, Any] = {"labelled_weight": 1.0, "warm_up": 0, "learning_rate": 3e-4}  # of ADGM
PLAIN = AUTHORS | {"learning_rate": 1e-3, "batch_norm": False}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "M2": ("m2", {"epochs": 60, "decay": 0.6, "decay_every": 20}),
    "M1+M2, M1 for 6,000 steps": ("m1m2", {"epochs": 100, "first_steps": 6000}),
    "M1+M2, M1 for 30,000 steps": ("m1m2", LOW | {"epochs": 300, "decay": 0.3, "decay_every": 250}),
    "ADGM, layers of 256": ("adgm", LOW | NARROW | {"epochs": 100, "decay": 0.6, "decay_every": 30}),
    "ADGM, labelled weight 1, no batch norm": (
        "adgm",
        NARROW | PLAIN | {"epochs": 100, "decay": 0.6, "decay_every": 30},
    ),
    "ADGM, labelled weight 1, no batch norm, a rate that falls once": (
        "adgm",
        LOW | NARROW | PLAIN | {"epochs": 160, "decay": 0.3, "decay_every": 120},
    ),
    "ADGM, its authors' settings, a rate that falls at 75": (
        "adgm",
        LOW | AUTHORS | {"epochs": 100, "decay": 0.3, "decay_every": 75},
    ),
    "ADGM, its authors' settings, a rate that falls at 160": (
        "adgm",
        LOW | AUTHORS | {"epochs": 200, "decay": 0.3, "decay_every": 160},
    ),
    "CaGeM": ("cagem", LOW | NARROW | {"epochs": 110, "decay": 0.3, "decay_every": 45}),
}


def study(dataset: str, seeds: int, out: Path) -> list[tuple[str, Trial]]:
    """Every model with every seed, all of one seed first."""
    shared = {"dataset": dataset, "device": "cpu", "checkpoint_every": 2995}
    settings = {
        name: starting_config("mnist", None, model).with_options(**shared, **options)
        for name, (model, options) in ROWS.items()
    }
    return every_seed(settings, range(FIRST_SEED, FIRST_SEED + seeds), out)


def rendered(results: dict[str, list[Result]]) -> str:
    """A row for each model: the test error after some epochs, log p(x), and the minutes of the whole training."""
    rows, shown = [], [epoch for epoch in EPOCHS if epoch <= max(options["epochs"] for _, options in ROWS.values())]
    for name, own in results.items():
        done = [result for result in own if result.scores is not None]
        if not done:
            continue
        courses = [errors_at(result.trial.config.run_dir / METRICS) for result in done]
        cells = []
        for epoch in shown:
            values = [course[epoch] for course in courses if epoch in course]
            cells.append(spread(values) if values else "–")
        likelihood = spread([result.scores.log_likelihood for result in done if result.scores])
        minutes = spread([result.seconds / 60 for result in done])
        rows.append([name, *cells, likelihood, minutes, str(len(done))])
    head = ["test error, %, after epochs", *map(str, shown), "log p(x) ≥, nats", "minutes", "seeds"]
    return table(head, rows)


def main() -> None:
    options = flags(__doc__, "runs/long", seeds=1).parse_args()
    planned = study(options.dataset, options.seeds, options.out)
    results: dict[str, list[Result]] = {name: [] for name in ROWS}
    for name, result in finish_all(planned, options.workers, ImportanceSampling()):
        results[name].append(result)
        put_into(OTHER_MODELS, rendered(results), MARKS)


if __name__ == "__main__":
    main()
