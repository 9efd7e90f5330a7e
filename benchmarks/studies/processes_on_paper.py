"""What a step of the distance costs in many processes, by its formulas.

``python -m benchmarks.studies.processes_on_paper`` prints the table of docs/large_batches.md, for other rates with
``--flops``, ``--near`` and ``--far``. Nothing is measured here.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product

NODE = 8  # GPUs that reach each other by the fast way


@dataclass(frozen=True)
class Rates:
    flops: float = 100e12
    """useful operations a second of one GPU"""
    near: float = 300e9
    """bytes a second that a GPU receives within a node"""
    far: float = 40e9
    """bytes a second that a GPU receives from other nodes"""


def gathered(codes: int, dim: int, processes: int, size: int = 4) -> float:
    """Bytes that each process receives: the codes of all others."""
    return (1 - 1 / processes) * codes * dim * size


def seconds(codes: int, dim: int, processes: int, rates: Rates, size: int = 4) -> tuple[float, float]:
    """Of gathering, and of evaluating the rows of one process, value and gradients."""
    bandwidth = rates.near if processes <= NODE else rates.far
    return gathered(codes, dim, processes, size) / bandwidth, 4 * codes / processes * codes * dim / rates.flops


def table(rates: Rates) -> str:
    lines = [
        "| codes | D | GPUs | received by each | gathering | its rows, value and gradients |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for millions, dim, processes in product((1, 16), (64, 1024), (8, 64, 512)):
        codes = millions << 20
        gathering, evaluating = seconds(codes, dim, processes, rates)
        received = gathered(codes, dim, processes) / 1e9
        cells = (f"{millions} Mi", dim, processes, f"{received:.3g} GB", _time(gathering), _time(evaluating))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return (
        f"{1e3 * seconds:.2g} ms" if seconds < 0.0995 else f"{seconds:.2g} s" if seconds < 99.5 else f"{seconds:.0f} s"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in vars(Rates()).items():
        parser.add_argument(f"--{name}", type=float, default=value)
    print(table(Rates(**vars(parser.parse_args()))))
