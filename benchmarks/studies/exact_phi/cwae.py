"""The exact form of φ, part 4: codes of the digits that are fitted to N(0, I) alone, without labels (CWAE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.studies.exact_phi.digits import EPOCHS, SEEDS, judge, trained
from benchmarks.studies.exact_phi.particles import describe
from segma_fast.distance.formulas import FORMS

DIMS = (2, 3, 5, 10)
ALPHA = 5.0


def measure(dims: Sequence[int] = DIMS, seeds: Sequence[int] = SEEDS, epochs: int = EPOCHS) -> dict[str, Any]:
    """One training run for each form, dimension of the codes and seed: the codes' moments and how well they fit."""
    runs = []
    for dim in dims:
        for phi in FORMS:
            for seed in seeds:
                settings: dict[str, Any] = {"dim": dim, "alpha": ALPHA, "phi": phi, "seed": seed}
                outcome = trained(settings, epochs, labels=False)
                codes = outcome.model.encode(outcome.data.train_images).double()
                moments = describe(codes - outcome.model.prior.means.detach().double())
                scores = judge(outcome)
                del scores["test_error"]  # one component does not tell classes apart
                runs.append(settings | moments | scores)
                print("cwae", runs[-1])
    return {"epochs": epochs, "alpha": ALPHA, "runs": runs}
