"""Table 1 of "Semi-supervised generation with cluster-aware generative models": log p(x) by clusters and labels.

``python -m benchmarks.studies.cagem --dataset ./mnist --epochs 6`` trains CaGeM without labels with 20, 5 and 10
clusters, and with 20, 50 and 100 labels, and puts the table into docs/other_models.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.report.tables import put_into, table
from benchmarks.studies.trained import FIRST_SEED, OTHER_MODELS, every_seed, finish_all, flags
from segma_fast.trainer.config import starting_config
from segma_fast.trainer.experiments.paper import Trial
from segma_fast.trainer.experiments.tables import Result, spread
from segma_fast.trainer.metrics import ImportanceSampling

MARKS = ("<!-- cagem -->", "<!-- end of cagem -->")
REPORTED = {
    "CaGeM-0, K = 20": -81.92,
    "CaGeM-0, K = 5": -81.86,
    "CaGeM-0, K = 10": -81.60,
    "CaGeM-20": -81.47,
    "CaGeM-50": -80.49,
    "CaGeM-100": -79.38,
}
ROWS = {
    "CaGeM-0, K = 20": {"labels": 0, "components": 20},
    "CaGeM-0, K = 5": {"labels": 0, "components": 5},
    "CaGeM-0, K = 10": {"labels": 0},
    "CaGeM-20": {"labels": 20},
    "CaGeM-50": {"labels": 50},
    "CaGeM-100": {"labels": 100},
}


def study(dataset: str, seeds: int, epochs: int, warm_up: int, out: Path) -> list[tuple[str, Trial]]:
    """Every row with every seed, all rows of one seed first; with batch norm and narrow networks."""
    base = starting_config("mnist", None, "cagem").with_options(
        dataset=dataset, device="cpu", epochs=epochs, checkpoint_every=3000, mixed_precision="bf16"
    )
    base = base.with_options(hidden=(256, 256), batch_norm=True, warm_up=warm_up)
    settings = {name: base.with_options(**changes) for name, changes in ROWS.items()}
    return every_seed(settings, range(FIRST_SEED, FIRST_SEED + seeds), out)


def rendered(results: Iterable[tuple[str, Result]]) -> str:
    """A row for each row of the paper's table: log p(x) here and there, and what was spent on it."""
    groups: dict[str, list[Result]] = {}
    for name, result in results:
        groups.setdefault(name, []).append(result)
    rows = []
    for name, own in groups.items():
        scores = [result.scores for result in own if result.scores is not None]
        if scores:
            minutes = spread([result.seconds / 60 for result in own])
            figures = [spread([s.log_likelihood for s in scores]), f"{REPORTED[name]:.2f}"]
            error = spread([100 * s.test_error for s in scores])
            rows.append([name, *figures, error, f"{own[0].epochs:.3g}", minutes, str(len(scores))])
    head = ["", "log p(x) ≥, nats", "paper", "test error, %", "epochs", "minutes", "seeds"]
    return table(head, rows)


def main() -> None:
    parser = flags(__doc__, "runs/cagem", seeds=1)
    parser.add_argument("--epochs", type=int, default=6, help="of each training")
    parser.add_argument("--warm-up", type=int, default=1800, help="steps")
    options = parser.parse_args()
    planned = study(options.dataset, options.seeds, options.epochs, options.warm_up, options.out)
    results: list[tuple[str, Result]] = []
    for found in finish_all(planned, options.workers, ImportanceSampling()):
        results.append(found)
        put_into(OTHER_MODELS, rendered(results), MARKS)


if __name__ == "__main__":
    main()
