"""What was measured, in one form for every machine and question: a JSON file of records, and the same as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from segma_fast.bench.problems import Case
from segma_fast.trainer.files import write_text

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One contender at one size: seconds a call, or the reason why there are none.

    Times are medians with the 20th and 80th percentile; memory is beyond inputs and returned gradients, in MB of 10⁶
    bytes; errors are relative to float64, that of the gradient the greatest of codes and means.
    """

    suite: str  # distance, scaling, memory, overhead, training, reproduction, micro-batches
    contender: str
    rows: int  # m, or the batch of a training step
    dim: int
    components: int = 10
    device: str = "cpu"
    dtype: str = "float32"
    gradients: bool = True
    gamma: float | None = None  # None: the paper's rule
    precision: str | None = None  # of ours
    phi: str = "approx"
    reason: str | None = None  # why it was not measured; begins with "time:" or "memory:" if for a limit
    median_s: float | None = None
    p20_s: float | None = None
    p80_s: float | None = None
    min_s: float | None = None
    rounds: int | None = None
    alone_s: float | None = None  # one call from an idle GPU to an idle GPU
    first_call_s: float | None = None
    peak_mb: float | None = None
    error_value: float | None = None
    error_gradient: float | None = None
    too_far: str | None = None  # what is wrong with the result
    machine_gflops: float | None = None  # torch's float32 product of 2048³ around this measurement
    share: float | None = None  # of a training step's time that the distance takes
    difference: float | None = None  # of the weights after some steps, relative to those by the reference
    micro_batch: int | None = None

    @property
    def case(self) -> Case:
        return Case(self.rows, self.dim, self.components, self.dtype, self.gradients, self.gamma)

    @property
    def measured(self) -> bool:
        return self.median_s is not None


@dataclass(frozen=True)
class Results:
    """A run of the benchmarks: when, on what, and what was found."""

    date: str  # ISO
    machine: dict[str, Any]
    records: list[Record]
    complete: bool = True  # else it was stopped, or measured only a part

    def of(self, suite: str, **wanted: Any) -> Iterator[Record]:
        """The records of a suite with some fields as given."""
        for record in self.records:
            if record.suite == suite and all(getattr(record, key) == value for key, value in wanted.items()):
                yield record

    def save(self, path: Path) -> None:
        """Write ``path`` and beside it the records as CSV, each whole or not at all."""
        records = [{key: value for key, value in asdict(r).items() if value is not None} for r in self.records]
        lines = ",\n  ".join(json.dumps(record, ensure_ascii=False) for record in records)
        about = {"schema": SCHEMA, "date": self.date, "complete": self.complete, "machine": self.machine}
        head = json.dumps(about, indent=1, ensure_ascii=False)
        write_text(path, f'{head.rstrip().removesuffix("}").rstrip()},\n "records": [\n  {lines}\n ]\n}}\n')
        write_text(path.with_suffix(".csv"), as_csv(self.records))

    @classmethod
    def read(cls, path: Path) -> Results:
        """
        Raises:
            OSError: if there is no such file.
            ValueError: if the file is damaged or not of this schema.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["schema"] != SCHEMA:
                raise KeyError("schema")
            records = [Record(**record) for record in content["records"]]
            return cls(content["date"], content["machine"], records, content.get("complete", True))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a result of schema {SCHEMA}: {type(error).__name__}: {error}") from error


def as_csv(records: Iterable[Record]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Record)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    return text.getvalue()
