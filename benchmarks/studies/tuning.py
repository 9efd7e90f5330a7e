"""Changes one setting of the preset ``tuned`` after the other.

``python -m benchmarks.studies.tuning --dataset ./mnist`` trains each for the same number of epochs on the same seeds,
one thread each, and the errors on 5,000 training images that are held out go into docs/experiments.md. What was trained
stays in ``--out``, so that a study that is stopped goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.report.tables import put_into, table
from benchmarks.studies.trained import EXPERIMENTS, every_seed, finish_all, flags
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.tables import Result, spread

MARKS = ("<!-- tuning -->", "<!-- end of tuning -->")
VALIDATION, FIRST_SEED = 5000, 100  # rows; seeds that no reported result has
HIDDEN = (256, 256)  # a quarter of the time of the paper's 1024, 1024
VARIANTS: dict[str, dict[str, Any]] = {
    "the preset": {},
    "100 labelled rows a step (the authors')": {"labelled_batch_size": 100},
    "20 labelled rows a step": {"labelled_batch_size": 20},
    "learning rate 3e-4 (the authors')": {"learning_rate": 3e-4},
    "learning rate 3e-3": {"learning_rate": 3e-3},
    "50 unlabelled rows a step": {"batch_size": 50},
    "500 unlabelled rows a step": {"batch_size": 500},
    "the first 100 labels (the authors')": {"label_choice": "first"},
    "random labels": {"label_choice": "random"},
    "means start on a simplex of radius 4": {"means_init": "simplex", "means_scale": 4.0},
    "γ = 0.1": {"gamma": 0.1},
    "γ = 1": {"gamma": 1.0},
    "exact φ, α = 0.5": {"phi": "exact", "alpha": 0.5},
    "α = 1": {"alpha": 1.0},
    "α = 5 (the authors')": {"alpha": 5.0},
    "means at the networks' rate (the authors')": {"means_rate": 1.0},
    "α = 5 and means at the networks' rate (the authors')": {"alpha": 5.0, "means_rate": 1.0},
    "means at 10 times the networks' rate": {"means_rate": 10.0},
    "means at 20 times the networks' rate": {"means_rate": 20.0},
    "β = 1": {"beta": 1.0},
    "β = 100": {"beta": 100.0},
    "all rows in d² and reconstruction (the paper's)": {"rows": "all", "gamma_rows": "distance"},
    "8 latent dimensions": {"latent_dim": 8},
    "20 latent dimensions": {"latent_dim": 20},
    "layers of 512": {"hidden": (512, 512)},
}


def study(dataset: str, epochs: int, seeds: int, out: Path) -> list[tuple[str, Trial]]:
    """Every setting with every seed, all settings of one seed first."""
    base = starting_config("mnist", "tuned").with_options(
        dataset=dataset, validation=VALIDATION, hidden=HIDDEN, epochs=epochs, device="cpu", checkpoint_every=3000
    )
    settings = {name: base.with_options(**changes) for name, changes in VARIANTS.items()}
    return every_seed(settings, range(FIRST_SEED, FIRST_SEED + seeds), out)


def rendered(results: dict[str, list[Result]], epochs: int) -> str:
    """A row per change: the errors by both classifiers."""
    rows = []
    for name, own in results.items():
        scores = [result.scores for result in own if result.scores is not None]
        if scores:
            by_equation = [100 * score.other_errors["equation (7)"] for score in scores]
            rows.append([name, spread([100 * s.test_error for s in scores]), spread(by_equation), str(len(scores))])
    head = [f"one change to the preset, {epochs} epochs", "validation error, %", "by equation (7), %", "seeds"]
    return table(head, rows)


def main() -> None:
    parser = flags(__doc__, "runs/tuning", seeds=2)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    results: dict[str, list[Result]] = {name: [] for name in VARIANTS}
    for name, result in finish_all(study(options.dataset, options.epochs, options.seeds, options.out), options.workers):
        results[name].append(result)
        put_into(EXPERIMENTS, rendered(results, options.epochs), MARKS)


if __name__ == "__main__":
    main()
