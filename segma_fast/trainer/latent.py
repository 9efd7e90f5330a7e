"""Operations in the latent space of a trained model; images are passed and returned as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from segma_fast.trainer.models.base import ImageModel


def sample_components(
    model: ImageModel,
    n: int,
    component: int | None = None,
    *,
    spread: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images decoded from samples of the prior, one row per component.

    Args:
        model: a trained model.
        n: images per component, n ≥ 1.
        component: the only component to sample, 0 … K-1; default all.
        spread: how far codes are from the centre of their component, as a multiple of what the prior says, ≥ 0.
        generator: random number generator on the model's device.

    Returns:
        (K, n, C, H, W) in [0, 1], or (1, n, C, H, W) for one component.

    Raises:
        ValueError: for n < 1, a spread that is not from 0 to 1e6, or a component that does not exist.
    """
    chosen = range(model.components) if component is None else [component]
    return _decoded(model, torch.stack([_drawn(model, n, k, spread, generator) for k in chosen]))


def sample_in_every_class(
    model: ImageModel, n: int, component: int, *, spread: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Images decoded from samples of a component, and from the same codes moved to each other one, equation (10).

    Arguments and errors are those of :func:`sample_components`.

    Returns:
        (n, K, C, H, W) in [0, 1].
    """
    codes = _drawn(model, n, component, spread, generator)
    source = torch.full((n,), component, device=codes.device)
    moved = [codes + model.direction(codes, source, torch.full_like(source, k)) for k in range(model.components)]
    return _decoded(model, torch.stack(moved, 1))


def interpolate(model: ImageModel, first: Tensor, second: Tensor, steps: int = 10) -> Tensor:
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


def transfer(
    model: ImageModel, images: Tensor, source: Tensor | None, target: Tensor, steps: int = 10, until: float = 1.0
) -> Tensor:
    """Move images to another class step by step, ``z + t (μ_target - μ_source)``, equation (10) at t = 1.

    Models whose classes are not represented by mean codes define their own :meth:`~ImageModel.direction`; the same
    holds for :func:`intensify`.

    Args:
        model: a trained model.
        images: (n, C, H, W).
        source: their classes (n,), int64; None uses the result of :func:`classify`.
        target: the classes to move to, (n,), int64.
        steps: values of t from 0 to ``until``, ≥ 2.
        until: the last t; 1 is the other class, and more is beyond it.

    Returns:
        (n, steps, C, H, W) in [0, 1].

    Raises:
        ValueError: for classes that do not exist, steps < 2, or an ``until`` beyond ±1e6.
    """
    _check_far("until", until)
    codes = model.encode(images)
    source = _classes(model, codes) if source is None else source
    _check(model, source=source, target=target)
    shift = until * model.direction(codes, source, target)
    return _decoded(model, _line(codes, codes + shift, steps))


def intensify(
    model: ImageModel, images: Tensor, source: Tensor | None, away_from: Tensor, alpha: float = 0.5, steps: int = 10
) -> Tensor:
    """Strengthen what sets images apart from a class, ``z + t α (μ_source - μ_away)``, equation (11) at t = 1.

    Args:
        model: a trained model.
        images: (n, C, H, W).
        source: their classes (n,), int64; None uses the result of :func:`classify`.
        away_from: the classes to move away from, (n,), int64.
        alpha: strength α; negative values weaken the difference.
        steps: values of t from 0 to 1, ≥ 2.

    Returns:
        (n, steps, C, H, W) in [0, 1].

    Raises:
        ValueError: for classes that do not exist, steps < 2, or an α beyond ±1e6.
    """
    _check_far("alpha", alpha)
    codes = model.encode(images)
    source = _classes(model, codes) if source is None else source
    _check(model, source=source, away_from=away_from)
    shift = alpha * model.direction(codes, away_from, source)
    return _decoded(model, _line(codes, codes + shift, steps))


def classify(model: ImageModel, images: Tensor) -> Tensor:
    """The most probable component of each image by the model's main classifier, (n, C, H, W) -> (n,) int64."""
    return _classes(model, model.encode(images))


def to_two_dimensions(codes: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
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


def _drawn(model: ImageModel, n: int, component: int, spread: float, generator: torch.Generator | None) -> Tensor:
    """Codes (n, D) of a component."""
    if n < 1:
        raise ValueError(f"n must be >= 1, got {n}")
    _check_far("spread", spread, least=0)
    codes = model.sample(n, component, generator=generator)
    centre = model.centres()[component]
    return codes if spread == 1 else centre + spread * (codes - centre)


def _check_far(name: str, value: float, least: float = -1e6, most: float = 1e6) -> None:
    if not least <= value <= most:  # also for NaN
        raise ValueError(f"{name} must be from {least:g} to {most:g}, got {value}")


def _classes(model: ImageModel, codes: Tensor) -> Tensor:
    own = next(iter(model.posteriors(codes).values()))
    return own.argmax(1)


def _check(model: ImageModel, **components: Tensor) -> None:
    for name, given in components.items():
        if len(given) and not (0 <= int(given.min()) and int(given.max()) < model.components):
            raise ValueError(f"{name} must be in 0 ... {model.components - 1}, got {given.tolist()}")


def _line(start: Tensor, end: Tensor, steps: int) -> Tensor:
    if steps < 2:
        raise ValueError(f"steps must be >= 2, got {steps}")
    t = torch.linspace(0, 1, steps, device=start.device)[:, None]
    return start[:, None] + t * (end - start)[:, None]  # (n, steps, D)


def _decoded(model: ImageModel, codes: Tensor) -> Tensor:
    images: Tensor = model.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return images
