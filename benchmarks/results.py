"""The file that ``make bench`` leaves, as numbers that tables and goals ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PEERS = ("chunked", "reference", "compiled", "pykeops", "cw-torch")


class Results:
    def __init__(self, content: dict[str, Any]) -> None:
        self.machine: dict[str, Any] = content["machine_info"]
        self.date: str = content["datetime"][:10]
        self.times: dict[tuple[int, int, int], dict[str, dict[str, Any]]] = {}  # by rows, dim, components
        self.memory: dict[int, float] = {}  # MB by rows
        self.overhead: dict[int, dict[str, float]] = {}  # seconds by dim and part
        self.batches: dict[tuple[int, int | None], dict[str, float]] = {}  # of a step, by rows and micro-batch
        self.forms: dict[int, dict[str, float]] = {}  # seconds by dim and form of φ
        for entry in content["benchmarks"]:
            params = entry["params"]
            if "contender" in params:
                shape = (params["rows"], params["dim"], params["components"])
                self.times.setdefault(shape, {})[params["contender"]] = entry["stats"] | entry["extra_info"]
            elif "part" in params:
                self.overhead.setdefault(params["dim"], {})[params["part"]] = entry["stats"]["median"]
            elif "form" in params:
                self.forms.setdefault(params["dim"], {})[params["form"]] = entry["stats"]["median"]
            elif "micro_batch" in params:
                key = (params["batch"], params["micro_batch"])
                self.batches[key] = {"seconds": entry["stats"]["median"], "mb": entry["extra_info"]["extra_mb"]}
            else:
                self.memory[params["rows"]] = entry["extra_info"]["extra_mb"]

    @classmethod
    def read(cls, path: Path) -> Results:
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def factor(self, shape: tuple[int, int, int], peer: str) -> float | None:
        """How many times as long as native the peer takes, or None where either was not measured."""
        entry = self.times.get(shape, {})
        if peer not in entry or "native" not in entry:
            return None
        return float(entry[peer]["median"] / entry["native"]["median"])

    def of_form(self, dim: int) -> float | None:
        """How many times as long the exact form takes as the approximation."""
        entry = self.forms.get(dim, {})
        return entry["exact"] / entry["approx"] if len(entry) == 2 else None

    def of_sgemm(self, shape: tuple[int, int, int]) -> float | None:
        """``4 m² D`` operations in native's time, relative to the rate of torch's matrix product around it."""
        native = self.times.get(shape, {}).get("native")
        if native is None:
            return None
        rows, dim, _ = shape
        return float(4e-9 * rows * rows * dim / native["median"] / native["sgemm_gflops"])
