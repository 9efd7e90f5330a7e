"""What one can do in the latent space of a trained model; every function takes and gives images as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from segma_fast.models.segma import SeGMA


def sample_components(
    model: SeGMA, n: int, component: int | None = None, *, generator: torch.Generator | None = None
) -> Tensor:
    """Images decoded from samples of the prior, one row a component.

    Args:
        model: a trained model.
        n: images a component, n ≥ 1.
        component: only this one, 0 … K-1.
        generator: random numbers, on the model's device.

    Returns:
        (K, n, C, H, W) in [0, 1], or (1, n, C, H, W) for one component.

    Raises:
        ValueError: for n < 1 or a component that does not exist.
    """
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    chosen = range(model.prior.components) if component is None else [component]
    with torch.no_grad():
        codes = [model.prior.sample(n, k, generator=generator) for k in chosen]
    return _decoded(model, torch.stack(codes))


def interpolate(model: SeGMA, first: Tensor, second: Tensor, steps: int = 10) -> Tensor:
    """Images along the line between the codes of two images.

    Args:
        model: a trained model.
        first, second: images (n, C, H, W), uint8 or in [0, 1].
        steps: images on each line, its ends included, ≥ 2.

    Returns:
        (n, steps, C, H, W) in [0, 1].

    Raises:
        ValueError: for steps < 2 or different numbers of images.
    """
    if len(first) != len(second):
        raise ValueError(f"first and second must hold the same number of images, got {len(first)} and {len(second)}")
    return _decoded(model, _line(model.encode(first), model.encode(second), steps))


def transfer(model: SeGMA, images: Tensor, source: Tensor | None, target: Tensor, steps: int = 10) -> Tensor:
    """Move images to another class step by step, ``z + t (μ_target - μ_source)``, equation (10) at t = 1.

    Args:
        model: a trained model.
        images: (n, C, H, W).
        source: their classes (n,), int64; None for what :func:`classify` says.
        target: the classes to move to, (n,), int64.
        steps: values of t from 0 to 1, ≥ 2.

    Returns:
        (n, steps, C, H, W) in [0, 1].

    Raises:
        ValueError: for classes that do not exist or steps < 2.
    """
    source = classify(model, images) if source is None else source
    codes = model.encode(images)
    shift = _means(model, target, "target") - _means(model, source, "source")
    return _decoded(model, _line(codes, codes + shift, steps))


def intensify(
    model: SeGMA, images: Tensor, source: Tensor | None, away_from: Tensor, alpha: float = 0.5, steps: int = 10
) -> Tensor:
    """Strengthen what sets images apart from a class, ``z + t α (μ_source - μ_away)``, equation (11) at t = 1.

    Args:
        model: a trained model.
        images: (n, C, H, W).
        source: their classes (n,), int64; None for what :func:`classify` says.
        away_from: the classes to move away from, (n,), int64.
        alpha: how far, α; negative values weaken.
        steps: values of t from 0 to 1, ≥ 2.

    Returns:
        (n, steps, C, H, W) in [0, 1].
    """
    source = classify(model, images) if source is None else source
    codes = model.encode(images)
    shift = alpha * (_means(model, source, "source") - _means(model, away_from, "away_from"))
    return _decoded(model, _line(codes, codes + shift, steps))


def classify(model: SeGMA, images: Tensor) -> Tensor:
    """The most probable component of each image by equation (7), (n, C, H, W) -> (n,) int64."""
    return model.prior.joint_log_prob(model.encode(images)).argmax(1)


def plane(codes: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (n, D) and means (K, D) in two dimensions: themselves for D ≤ 2, else their joint t-SNE embedding.

    K means that are equally far from each other have no faithful projection to a plane; t-SNE keeps neighbourhoods.
    """
    dim = codes.shape[1]
    if dim <= 2:
        pad = (0, 2 - dim)
        return torch.nn.functional.pad(codes, pad), torch.nn.functional.pad(means, pad)
    from sklearn.manifold import TSNE

    points = torch.cat([codes, means]).cpu().numpy()
    perplexity = min(30.0, max(1.0, (len(points) - 1) / 3))
    flat = torch.from_numpy(TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(points))
    return flat[: len(codes)], flat[len(codes) :]


def _means(model: SeGMA, components: Tensor, name: str) -> Tensor:
    known = model.prior.components
    if len(components) and not (0 <= int(components.min()) and int(components.max()) < known):
        raise ValueError(f"{name} must be in 0 ... {known - 1}, got {components.tolist()}")
    means: Tensor = model.prior.means.detach()
    return means[components]


def _line(start: Tensor, end: Tensor, steps: int) -> Tensor:
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    t = torch.linspace(0, 1, steps, device=start.device)[:, None]
    return start[:, None] + t * (end - start)[:, None]  # (n, steps, D)


def _decoded(model: SeGMA, codes: Tensor) -> Tensor:
    images: Tensor = model.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return images
