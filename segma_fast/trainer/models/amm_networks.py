"""Networks of the Adversarially Learned Mixture Model; ``amm_tables.py`` defines their sizes.

Encoder and decoder have two parallel streams, one for the class y and one for the code z. In each pair of layers, the
first stream is independent, and its output before normalisation and activation is added to that of the second stream.
Dropout is applied to the input of a layer, because the paper's tables also list it for the last layers, where dropping
outputs would make no sense.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

SLOPE = 0.2  # negative slope of leaky ReLU
Shape = tuple[int, int, int]


class Pair(nn.Module):
    """One layer of both streams; the output of the first is added to that of the second.

    Args:
        inputs: input features of the first and of the second stream.
        outputs: output features of each stream.
        size: kernel size of a convolution; 0 for a dense layer.
        stride: of the convolution, which has no padding.
        up: whether it is a decoder layer: transposed convolution, no activation in the second stream.
        dropout: dropout probability of the inputs.
        pool: kernel size of the average pooling of the outputs; 1 for none.
        last: whether to leave out normalisation and activation.
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        outputs: int,
        size: int = 0,
        stride: int = 1,
        *,
        up: bool = False,
        dropout: float = 0.0,
        pool: int = 1,
        last: bool = False,
    ) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.first, self.second = (
            nn.Sequential(nn.Dropout(dropout), kind(n, outputs, size, stride) if size else nn.Linear(n, outputs))
            for n in inputs
        )
        after: list[list[nn.Module]] = [[], []]
        for stream in range(0 if last else 2):
            after[stream].append(nn.BatchNorm2d(outputs) if size else nn.BatchNorm1d(outputs))
            if not (up and stream == 1):
                after[stream].append(nn.LeakyReLU(SLOPE))
            if pool > 1:
                after[stream].append(nn.AvgPool2d(pool))
        self.first_after, self.second_after = (nn.Sequential(*layers) for layers in after)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        added = self.first(first)
        return self.first_after(added), self.second_after(self.second(second) + added)


class Encoder(nn.Module):
    """Images (N, C, H, W) to q(y|x) q(z|x, y), equation (6), or q(z|x) q(y|x, z), equation (7).

    Args:
        trunk: shared layers before the two streams split.
        pairs: layers of the two streams; the first stream is y for equation (6), z for equation (7).
        width: features after the last pair.
        components: K.
        latent_dim: L, the dimension of z.
        class_first: True for equation (6), False for equation (7).
    """

    def __init__(
        self, trunk: nn.Module, pairs: list[Pair], width: int, components: int, latent_dim: int, class_first: bool
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.pairs = nn.ModuleList(pairs)
        self.join = nn.Sequential(*dense([width + components, width], normalise=True)) if class_first else None
        self.to_y = nn.Linear(width, 2 * components)
        self.to_z = nn.Linear(width, 2 * latent_dim)

    def forward(self, images: Tensor, given: Tensor | None = None, noise: bool = True) -> tuple[Tensor, Tensor]:
        """Class probabilities y (N, K) and codes z (N, L), equations (8)-(10).

        Args:
            images: (N, C, H, W) in [0, 1].
            given: the classes of the last l images, (l, K), one-hot; the others are inferred.
            noise: whether to sample y and z, or to take their means.
        """
        first = second = self.trunk(images)
        for pair in self.pairs:
            first, second = pair(first, second)
        first, second = first.flatten(1), second.flatten(1)
        y = _draw(self.to_y(second if self.join is None else first), noise).softmax(1)
        if given is not None:
            y = torch.cat([y[: len(y) - len(given)], given])
        features = first if self.join is None else self.join(torch.cat([second, y], 1))
        return y, _draw(self.to_z(features), noise)


class Prior(nn.Module):
    """The mixture p(z|y), equation (12), whose means and variances are learned.

    Args:
        components: K.
        latent_dim: L.
        hidden: widths of the layers before the means.
        dropout: dropout probability of the inputs of the second and later ones.
    """

    def __init__(self, components: int, latent_dim: int, hidden: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        widths = [components, *hidden]
        # no dropout of the one-hot class, without which its row would belong to none
        first, rest = dense(widths[:2], normalise=True), dense(widths[1:], dropout, normalise=True)
        self.mean = nn.Sequential(*first, *rest, nn.Linear(widths[-1], latent_dim))
        self.log_variance = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log variances, both (N, L), for one-hot classes (N, K)."""
        return self.mean(y), y @ self.log_variance


class Decoder(nn.Module):
    """p(x|y, z); the stream of z is independent and is added to the stream of y.

    Args:
        pairs: layers of the two streams.
        image_shape: (C, H, W).
        maps: whether the pairs are convolutions.
    """

    def __init__(self, pairs: list[Pair], image_shape: Shape, maps: bool) -> None:
        super().__init__()
        self.pairs = nn.ModuleList(pairs)
        self.image_shape = image_shape
        self.maps = maps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Classes (N, K) and codes (N, L) to images (N, C, H, W) in [0, 1]."""
        first, second = (z[:, :, None, None], y[:, :, None, None]) if self.maps else (z, y)
        for pair in self.pairs:
            first, second = pair(first, second)
        return second.reshape(second.shape[0], *self.image_shape).sigmoid()


class Discriminator(nn.Module):
    """D(x, y, z) as a logit, for one game, or for two that share the layers before x, y and z are concatenated.

    Args:
        of_x: layers for the images.
        width: output features of these layers.
        side: output features of the layers for y and for z.
        components, latent_dim: K and L.
        dropout: dropout probability of the dense layers.
        heads: number of output heads, one or two.
    """

    def __init__(
        self,
        of_x: list[nn.Module],
        width: int,
        side: int,
        components: int,
        latent_dim: int,
        dropout: float,
        heads: int,
    ) -> None:
        super().__init__()
        self.of_x = nn.Sequential(*of_x, nn.Flatten())
        self.of_y, self.of_z = (
            nn.Sequential(*dense([n, side]), *dense([side, side], dropout)) for n in (components, latent_dim)
        )
        joined = width + 2 * side
        self.joint = nn.ModuleList(
            nn.Sequential(*dense([joined] * 3, dropout), nn.Dropout(dropout), nn.Linear(joined, 1))
            for _ in range(heads)
        )

    def forward(self, x: Tensor, y: Tensor, z: Tensor, labelled: int = 0) -> Tensor:
        """Images (N, C, H, W), classes (N, K) and codes (N, L) to logits (N,); the last rows belong to game two."""
        features = torch.cat([self.of_x(x), self.of_y(y), self.of_z(z)], 1)
        parts = (features,) if len(self.joint) == 1 else features.split([len(x) - labelled, labelled])
        return torch.cat([joint(part) for joint, part in zip(self.joint, parts, strict=True)])[:, 0].float()


def gradient_penalty(
    discriminator: Callable[..., Tensor],
    inferred: tuple[Tensor, ...],
    synthesised: tuple[Tensor, ...],
    labelled: int = 0,
) -> Tensor:
    """Equation (18) without its weight, E (‖∇D‖ - 1)² at random points between triples, 0-d.

    Args:
        discriminator: maps x, y, z and ``labelled`` to logits (N,), which serve as D.
        inferred, synthesised: x (N, C, H, W), y (N, K), z (N, L).
        labelled: number of rows, the last ones, that belong to the labelled game.
    """
    t = torch.rand(len(inferred[0]), 1, device=inferred[0].device)
    points = [
        torch.lerp(a.detach().flatten(1), b.detach().flatten(1), t).reshape(a.shape).requires_grad_()
        for a, b in zip(inferred, synthesised, strict=True)
    ]
    gradients = torch.autograd.grad(discriminator(*points, labelled).sum(), points, create_graph=True)
    squares = torch.cat([g.flatten(1) for g in gradients], 1).square().sum(1)
    return ((squares + 1e-12).sqrt() - 1).square().mean()


def dense(widths: list[int], dropout: float = 0.0, normalise: bool = False) -> list[nn.Module]:
    """Dense layers of these widths, each with dropout on its input and an activation."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Dropout(dropout), nn.Linear(a, b)]
        layers += [nn.BatchNorm1d(b), nn.LeakyReLU(SLOPE)] if normalise else [nn.LeakyReLU(SLOPE)]
    return layers


def _draw(parameters: Tensor, noise: bool) -> Tensor:
    """Sample (N, D) from means and log variances joined as (N, 2 D), equations (8) and (20), or return the means."""
    mean, log_variance = parameters.float().chunk(2, 1)
    return mean + (0.5 * log_variance).exp() * torch.randn_like(mean) if noise else mean
