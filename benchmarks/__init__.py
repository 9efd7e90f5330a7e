"""What is measured of segma_fast, and what is written of it; README.md says where what is. Run from the root."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository; ``python -m benchmarks.…`` starts there
RESULTS = ROOT / "benchmarks" / "results"
