"""The test error over the epochs, from the metrics logged by the trainings."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from segma_fast.trainer.experiments.paper import MODELS
from segma_fast.trainer.experiments.tables import Result, grouped, row, spread
from segma_fast.trainer.run_folder import METRICS

EPOCHS = (5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 500)
LATE = 1.2  # the error for an epoch may have been measured later, up to this factor


def render_course(results: Iterable[Result]) -> str:
    """The test errors, in percent, of the models of Table II after 5, 10, 20, ... epochs, in Markdown.

    Args:
        results: of all trials so far; each run folder has a metrics.csv.

    Returns:
        One line per model and choice of labels: mean and standard deviation over the seeds that reached the epoch, with
        their number if some did not; an empty string if there are none.
    """
    groups = {
        (MODELS[model], labels): [errors_at(result.trial.config.run_dir / METRICS) for result in own]
        for (model, labels), own in grouped(results, 2).items()
    }
    shown = [epoch for epoch in EPOCHS if any(epoch in own for group in groups.values() for own in group)]
    if not shown:
        return ""
    head = ["model", "labels", *(f"{epoch} epochs" for epoch in shown)]
    lines = ["Test error on the way, %", "", row(head), row(["---"] * len(head))]
    for (model, labels), group in groups.items():
        cells = []
        for epoch in shown:
            values = [own[epoch] for own in group if epoch in own]
            fewer = f" ({len(values)} of {len(group)})" if 0 < len(values) < len(group) else ""
            cells.append(spread(values) + fewer if values else "–")
        lines.append(row([model, labels, *cells]))
    return "\n".join(lines)


def errors_at(metrics: Path) -> dict[int, float]:
    """The test error in percent after each of ``EPOCHS`` that a training reached, from its metrics.csv."""
    if not metrics.exists():
        return {}
    measured: list[tuple[float, float]] = []
    with metrics.open(newline="", errors="replace") as file:
        for line in csv.DictReader(file):
            with suppress(KeyError, TypeError, ValueError):  # no test error in this line, or a damaged line
                measured.append((float(line["epoch"]), float(line["test_error"])))
    found = {}
    for epoch in EPOCHS:
        place = bisect_left(measured, epoch * (1 - 1e-6), key=lambda pair: pair[0])
        if place < len(measured) and measured[place][0] <= LATE * epoch:
            found[epoch] = 100 * measured[place][1]
    return found
