"""The noise of slices: ``python -m benchmarks.studies.slices`` draws ``docs/images/slices_noise.png``, in a minute.

The relative error of one step's gradient against the mean over all directions, for embeddings from N(0, I): with
independent directions, as LeJEPA draws them, and with segma_fast's, which are orthogonal in blocks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import ROOT
from segma_fast import sigreg
from segma_fast.distance.slices.operators import WAVES
from segma_fast.trainer.files import replacing

ROWS, DRAWS, STEP, FREQUENCIES = 512, 5, 0.3, 17
COLOURS = {16: "#0072b2", 64: "#009e73", 512: "#d55e00"}  # by dimension
SLICES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)


def independent(z: Tensor, slices: int) -> Tensor:
    """SIGReg along independent directions, with the frequencies of the other."""
    directions = torch.nn.functional.normalize(torch.randn(z.shape[1], slices, dtype=z.dtype), dim=0)
    steps = torch.full((1, slices), STEP, dtype=torch.float64)
    waves = WAVES["native"](z[None], directions, steps, FREQUENCIES)[0] / len(z)
    t = STEP * torch.arange(1, FREQUENCIES + 1, dtype=torch.float64)[:, None]
    gaps = (waves[0] - torch.exp(-t * t / 2)).square() + waves[1].square()
    return 2 * STEP * len(z) * (torch.exp(-t * t / 2) * gaps).mean(1).sum()


def noise(statistic: Callable[[Tensor, int], Tensor], z: Tensor, slices: int) -> float:
    """The median over some draws of the relative error of the gradient."""
    (exact,) = torch.autograd.grad(sigreg(z), z)
    drawn = [torch.autograd.grad(statistic(z, slices), z)[0] for _ in range(DRAWS)]
    return median(((gradient - exact).norm() / exact.norm()).item() for gradient in drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "slices_noise.png")
    options = parser.parse_args()
    torch.manual_seed(0)
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    print("| D | R | independent | orthogonal | rule 2 (D/R)^(1/2) |\n|---|---|---|---|---|")
    for dim, colour in COLOURS.items():
        z = torch.randn(ROWS, dim, dtype=torch.float64).requires_grad_()
        found = {
            "independent": [noise(independent, z, slices) for slices in SLICES],
            "orthogonal": [noise(lambda z, slices: sigreg(z, slices=slices), z, slices) for slices in SLICES],
        }
        ax.plot(SLICES, found["independent"], "--", color=colour, lw=1)
        ax.plot(SLICES, found["orthogonal"], "o-", color=colour, ms=4, label=f"D = {dim}")
        for slices, *errors in zip(SLICES, *found.values(), strict=True):
            if slices in (256, 1024, 4096):
                rule = 2 * (dim / slices) ** 0.5
                print(f"| {dim} | {slices} | {errors[0]:.2f} | {errors[1]:.2f} | {rule:.2f} |")
    ax.plot([], [], "--", color="#555555", lw=1, label="independent directions")
    ax.axhline(1, color="#bbbbbb", lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="slices R", ylabel="relative error of one step's gradient")
    ax.set_xticks(SLICES, [str(slices) for slices in SLICES], minor=False)
    ax.set_xticks([], minor=True)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    with replacing(options.out) as path:
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
