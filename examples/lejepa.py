"""LeJEPA in small, with SIGReg in four forms and without it: ``python examples/lejepa.py --figure lejepa.png``.

Four random views of each digit are encoded and projected. Each projection shall be the mean over the four views, and
the projections of a view shall be normal, which prevents their collapse: the loss is ``(1 - λ) invariance + λ SIGReg``.
All see the same images from the same start. A linear classifier on the encoder's output says what that is worth: its
accuracy on the test images, mean (least – most) of three seeds. The other columns are of the test images' projections:
principal components with a standard deviation above 0.1, the coordinates' own (1 is asked for), and exact SIGReg.

Output::

                               10 labels a class       all labels       dimensions  deviation  SIGReg  ms a step
    none                       85.4 % (85.0 – 86.2)  98.4 % (97.8 – 98.9)         0.0       0.00   147.1       12.8
    SIGReg()                   95.0 % (94.7 – 95.2)  99.3 % (99.2 – 99.4)        28.7       1.01    10.5       14.0
    SIGReg(), views pooled     94.9 % (94.8 – 95.0)  99.2 % (99.2 – 99.2)        29.0       1.01    10.6       18.1
    SIGReg(slices=256)         94.3 % (93.7 – 95.2)  99.3 % (99.2 – 99.4)        25.0       1.03    13.5       15.9
    plain torch, 256 slices    94.5 % (93.8 – 94.8)  99.2 % (99.2 – 99.2)        24.7       1.02    13.6       37.4
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads sleep; to be set before its import
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # but not at once

import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

from segma_fast import SIGReg, sigreg
from segma_fast.trainer.data import DataConfig, ImageData, load_data

VIEWS, IMAGES, SLICES, LABELS, WIDTH = 4, 256, 256, 10, 256
Run = tuple[list[float], list[tuple[float, ...]]]


def plain_sigreg(z: Tensor) -> Tensor:
    """SIGReg as it is usually written: the Epps-Pulley statistic of random projections, 17 points each."""
    directions: Tensor = F.normalize(torch.randn(z.shape[-1], SLICES), dim=0)
    t = torch.linspace(0, 3, 17)  # half of an even integrand
    normal = torch.exp(-t.square() / 2)
    angles = (z @ directions)[..., None] * t  # (views, N, slices, points)
    error = (angles.cos().mean(1) - normal).square() + angles.sin().mean(1).square()
    return 2 * z.shape[1] * torch.trapezoid(error * normal, t).mean()


def pooled_sigreg(z: Tensor) -> Tensor:
    """All views as one sample, in which those of one image are no pairs; divided, so that N is still one view's."""
    return SIGReg()(z.flatten(0, 1), views=len(z)) / len(z)


REGULARISERS: dict[str, Callable[[Tensor], Tensor]] = {  # of projections (views, N, D)
    "none": lambda z: z.new_zeros(()),
    "SIGReg()": SIGReg(),
    "SIGReg(), views pooled": pooled_sigreg,
    f"SIGReg(slices={SLICES})": SIGReg(slices=SLICES),
    f"plain torch, {SLICES} slices": plain_sigreg,
}


def views_of(images: Tensor, generator: torch.Generator) -> Tensor:
    """VIEWS random versions of (n, C, H, W): turned, scaled, shifted, in another contrast, with noise."""
    x: Tensor = images.repeat(VIEWS, 1, 1, 1)
    turn, scale, contrast = (2 * torch.rand(3, len(x), generator=generator) - 1) * torch.tensor([[0.35], [0.2], [0.4]])
    shift = 0.5 * torch.rand(len(x), 2, generator=generator) - 0.25  # in half widths
    cos, sin = (1 + scale) * turn.cos(), (1 + scale) * turn.sin()
    maps = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(-1, 2, 3)
    x = F.grid_sample(x, F.affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)
    return x * (1 + contrast[:, None, None, None]) + 0.1 * torch.randn(x.shape, generator=generator)


def layer(inputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]


def train(data: ImageData, regularise: Callable[[Tensor], Tensor], seed: int, args: argparse.Namespace) -> Run:
    """The seconds of each step, without making the views, and ten times on the way what ``measure`` finds."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Flatten(), *layer(data.train_images[0].numel()), *layer(WIDTH))
    projector = nn.Sequential(*layer(WIDTH), nn.Linear(WIDTH, args.dim))
    network = nn.Sequential(encoder, projector)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps)
    generator = torch.Generator().manual_seed(seed)  # of the views, for no regulariser shall change them
    seconds, curve = [], []
    for step in range(1, args.steps + 1):
        batch = torch.randint(len(data.train_images), (IMAGES,), generator=generator)
        x = views_of(data.train_images[batch].float() / 255, generator)
        start = time.perf_counter()
        z = network(x).view(VIEWS, IMAGES, args.dim)
        invariance = (z - z.mean(0)).square().mean()
        loss = (1 - args.weight) * invariance + args.weight * regularise(z)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        schedule.step()
        if step == 1 or step % max(1, args.steps // 10) == 0:
            network.eval()
            curve.append((step, *measure(data, encoder, projector)))
            network.train()
    return seconds, curve


@torch.no_grad()
def measure(data: ImageData, encoder: nn.Module, projector: nn.Module) -> tuple[float, ...]:
    """Accuracy with few labels and with all; of the test images' projections: dimensions, deviation, SIGReg."""
    features, test = (encoder(images.float() / 255) for images in (data.train_images, data.test_images))
    orders = [torch.randperm(len(features), generator=torch.Generator().manual_seed(i)) for i in range(10)]
    few = [torch.cat([rows[data.train_labels[rows] == k][:LABELS] for k in range(data.classes)]) for rows in orders]
    linear = make_pipeline(StandardScaler(), RidgeClassifier())
    fits = (linear.fit(features[rows], data.train_labels[rows]) for rows in (*few, orders[0]))
    accuracy = [100 * fit.score(test, data.test_labels) for fit in fits]
    z = projector(test)
    components = torch.linalg.svdvals(z - z.mean(0)) / len(z) ** 0.5  # their standard deviations; SIGReg asks for 1
    used = (components > 0.1).sum().item()
    return statistics.mean(accuracy[:-1]), accuracy[-1], used, z.std(0).mean().item(), sigreg(z).item()


def draw(curves: dict[str, Tensor], milliseconds: dict[str, float], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, curve in curves.items():
        steps = curve[0, :, 0]
        style = "o--" if "pooled" in name else "o-"
        for axis, x, y in ((left, steps * milliseconds[name] / 1e3, curve[..., 1]), (right, steps, curve[..., 5])):
            axis.plot(x, y.mean(0), style, ms=3, label=name)
            axis.fill_between(x, y.amin(0), y.amax(0), alpha=0.2, lw=0)
    left.set(
        xscale="log", xlim=(0.3, None), xlabel="seconds of training", title=f"accuracy in %, {LABELS} labels a class"
    )
    left.xaxis.set_major_formatter("{x:g}")
    right.set(yscale="log", xlabel="step", title="exact SIGReg of the test images' projections")
    right.axhline(1.06, color="0.5", ls=":", label="N(0, I) itself")
    right.legend(loc=(0.02, 0.09))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits", help="or a folder, or a name on the Hub such as ylecun/mnist")
    for option, default in {"steps": 300, "seeds": 3, "dim": 64, "lr": 0.016, "weight": 0.02}.items():
        parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    data = load_data(DataConfig(dataset=args.data))
    runs: dict[str, list[Run]] = {name: [] for name in REGULARISERS}
    for seed in range(args.seeds):
        for name, regularise in REGULARISERS.items():  # in turn, so that a busy machine slows all of them
            runs[name].append(train(data, regularise, seed, args))
    curves = {name: torch.tensor([curve for _, curve in found]).double() for name, found in runs.items()}
    times = {name: 1e3 * statistics.median(s for seconds, _ in found for s in seconds) for name, found in runs.items()}
    print(f"{'':27}{LABELS} labels a class       all labels       dimensions  deviation  SIGReg  ms a step")
    for name, curve in curves.items():
        last = curve[:, -1, 1:]
        few, every = (f"{x.mean():.1f} % ({x.min():.1f} – {x.max():.1f})" for x in last.T[:2])
        used, deviation, value = last.mean(0)[2:].tolist()
        print(f"{name:25}  {few}  {every}  {used:10.1f}  {deviation:9.2f}  {value:6.1f}  {times[name]:9.1f}")
    if args.figure:
        draw(curves, times, args.figure)
