"""The common format of all benchmark results: a JSON file of records, and the same records as CSV."""

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
    """One contender at one size: seconds per call, or the reason why it was not measured.

    Times are medians with the 20th and 80th percentile. Memory excludes inputs and returned gradients, in MB of 10⁶
    bytes. Errors are relative to float64; the gradient error is the larger of those of codes and means.
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
    precision: str | None = None  # of segma_fast's backends
    phi: str = "approx"
    reason: str | None = None  # why it was not measured; begins with "time:" or "memory:" if it hit a limit
    median_s: float | None = None
    p20_s: float | None = None
    p80_s: float | None = None
    min_s: float | None = None
    rounds: int | None = None
    alone_s: float | None = None  # a single call, synchronised before and after
    first_call_s: float | None = None
    peak_mb: float | None = None
    error_value: float | None = None
    error_gradient: float | None = None
    too_far: str | None = None  # what is wrong with the result
    machine_gflops: float | None = None  # rate of torch's 2048³ float32 matrix product around this measurement
    share: float | None = None  # fraction of a training step's time spent in the distance
    difference: float | None = None  # of the weights after some steps, relative to training with the reference
    micro_batch: int | None = None

    @property
    def case(self) -> Case:
        return Case(self.rows, self.dim, self.components, self.dtype, self.gradients, self.gamma)

    @property
    def measured(self) -> bool:
        return self.median_s is not None


@dataclass(frozen=True)
class Results:
    """One run of the benchmarks: date, machine and records."""

    date: str  # ISO
    machine: dict[str, Any]
    records: list[Record]
    complete: bool = True  # False: it was stopped, or measured only a part

    def of(self, suite: str, **wanted: Any) -> Iterator[Record]:
        """The records of a suite whose fields have the given values."""
        for record in self.records:
            if record.suite == suite and all(getattr(record, key) == value for key, value in wanted.items()):
                yield record

    def save(self, path: Path) -> None:
        """Write the JSON file ``path`` and a CSV file of the records beside it, each atomically."""
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
