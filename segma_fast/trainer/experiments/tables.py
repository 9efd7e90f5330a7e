"""The paper's tables next to the measured values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from segma_fast.trainer.experiments.paper import MODELS, REPORTED, SHOWN, TABLES, Experiment, Table, Trial
from segma_fast.trainer.experiments.scores import Scores


@dataclass(frozen=True)
class Result:
    """A trial that has been trained, or why it could not be."""

    trial: Trial
    scores: Scores | None
    epochs: float
    seconds: float
    """spent on training"""
    failure: str = ""

    @property
    def cut(self) -> bool:
        """Whether training ended before its last epoch."""
        return self.epochs < self.trial.config.epochs

    def figure(self, table: Table) -> float:
        if self.scores is None:
            return math.nan
        figures = {1: self.scores.fid, 2: 100 * self.scores.test_error, 3: self.scores.fid_interpolations}
        return figures[table]


def render(
    experiment: Experiment,
    table: Table,
    results: Iterable[Result],
    floor: float = math.nan,
    inception: bool = True,
) -> str:
    """A table of the paper in Markdown, with mean and standard deviation over the seeds.

    Args:
        experiment: whose column of the paper's table is shown.
        table: 1, 2 or 3.
        results: of all trials so far.
        floor: Fréchet distance of real training images, for the tables of Fréchet distances.
        inception: whether the Fréchet distances use Inception's features, as in the paper.
    """
    paper = "paper" if inception or table == 2 else "paper (other features)"
    head = ["model", "labels", "here, mean ± sd", "seeds", "epochs", "time", paper]
    lines = [TABLES[table], "", row(head), row(["---"] * len(head))]
    groups = grouped(results, table)
    notes = []
    for (model, labels), own in sorted(groups.items(), key=lambda group: SHOWN[table].index(group[0][0])):
        done = [result for result in own if math.isfinite(result.figure(table))]
        notes += [f"{result.trial.title}: {result.failure}." for result in own if result.failure]
        if not done:
            continue
        planned = done[0].trial.config.epochs
        reported = REPORTED[experiment][table].get(model)
        cells = [MODELS[model], labels, spread([result.figure(table) for result in done]), str(len(done))]
        epochs = between([f"{result.epochs:.3g}" for result in sorted(done, key=lambda r: r.epochs)])
        cells.append(f"**{epochs} of {planned}**" if any(result.cut for result in done) else str(planned))
        cells.append(between([duration(result.seconds) for result in sorted(done, key=lambda r: r.seconds)]))
        lines.append(row([*cells, "–" if reported is None else f"{reported:.2f}".rstrip("0").rstrip(".")]))
        if labels.endswith("first") and len(done) > 1:
            notes.append(f"{MODELS[model]}, {labels}: the same labels with every seed.")
        if table == 2:
            notes += other_errors(f"{MODELS[model]}, {labels}" if labels != "–" else MODELS[model], done)
        if table == 3:
            notes += fid_parts(f"{MODELS[model]}, {labels}", done)
        if max(r.seconds for r in done) > 1.2 * min(r.seconds for r in done) and any(result.cut for result in done):
            notes.append(
                f"{MODELS[model]}, {labels}: its trainings took different times, which is part of the deviation."
            )
    if table != 2 and math.isfinite(floor):
        lines.append(row(["real training images", "–", f"{floor:.2f}", "–", "–", "–", "–"]))
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)])


def other_errors(name: str, results: Iterable[Result]) -> list[str]:
    """A note on what gives the classes, and the mean test errors by other classifiers and mappings, if any."""
    scores = [result.scores for result in results if result.scores is not None]
    found = [own.other_errors for own in scores]
    by = {other: [100 * own[other] for own in found if other in own] for other in found[0]}
    parts = [f"{spread(errors)} % by {other}" for other, errors in by.items()]
    return [f"{name}: test error in the table by {scores[0].classifier}; {', '.join(parts)}."] if parts else []


def fid_parts(name: str, results: Iterable[Result]) -> list[str]:
    """A note on what the Fréchet distance of interpolations is made of, mean over the results; none if not measured."""
    measured = [result.scores.fid_parts for result in results if result.scores is not None and result.scores.fid_parts]
    if not measured:
        return []
    parts = [f"{spread([own[part] for own in measured if part in own])} of {part}" for part in measured[0]]
    return [f"{name}: FID {', '.join(parts)}."]


def grouped(results: Iterable[Result], table: Table) -> dict[tuple[str, str], list[Result]]:
    """The results of a table, grouped by model and choice of labels; each group has the seeds of one table row."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.trial.model in SHOWN[table]:
            groups.setdefault((result.trial.model, result.trial.labels), []).append(result)
    return groups


def between(words: list[str]) -> str:
    """``"first to last"`` for the first and last word, or just the word if both are equal."""
    return words[0] if words[0] == words[-1] else f"{words[0]} to {words[-1]}"


def spread(values: list[float]) -> str:
    """``"mean ± standard deviation"``, the latter with n - 1; a single value without a deviation."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def row(cells: list[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def duration(seconds: float) -> str:
    """A duration such as ``"12.0 s"``, ``"20.0 min"`` or ``"1.5 h"``."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
