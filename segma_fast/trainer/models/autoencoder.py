"""Encoder and decoder: fully connected or convolutional, of any width, depth and image size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

KERNEL, STRIDE, PADDING = 4, 2, 1
Upsampling = Literal["transposed", "nearest"]


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks."""

    network: Literal["dense", "conv"] = "dense"
    """fully connected, or 4×4 convolutions of stride 2 followed by dense layers"""
    latent_dim: int = 10
    """dimension D of the codes"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the encoder's dense layers"""
    decoder_hidden: tuple[int, ...] | None = None
    """widths of the decoder's dense layers; default the encoder's in reverse"""
    channels: tuple[int, ...] = (32, 32, 64, 64)
    """channels of the encoder's convolutions, reversed in the decoder (only for conv)"""
    upsampling: Upsampling = "transposed"
    """how the decoder enlarges (only for conv): by transposed convolutions, or without their checkerboard by
    copying the nearest pixel, followed by a 3×3 convolution"""

    def __post_init__(self) -> None:
        if self.network not in ("dense", "conv"):
            raise ValueError(f"network must be 'dense' or 'conv', got {self.network!r}")
        if self.upsampling not in ("transposed", "nearest"):
            raise ValueError(f"upsampling must be 'transposed' or 'nearest', got {self.upsampling!r}")
        if self.network != "conv" and self.upsampling != "transposed":
            raise ValueError(f"upsampling={self.upsampling!r} is for network='conv', got network={self.network!r}")
        widths = (self.latent_dim, *self.hidden, *(self.decoder_hidden or ()), *self.channels)
        if min(widths) < 1 or (self.network == "conv" and not self.channels):
            raise ValueError(f"latent_dim and all widths and channels must be >= 1, got {self}")

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        """Widths of the decoder's dense layers."""
        return self.hidden[::-1] if self.decoder_hidden is None else self.decoder_hidden


class AutoEncoder(nn.Module):
    """Images (N, C, H, W) in [0, 1] to codes (N, D) and back: ReLU, a sigmoid at the end, Glorot-uniform weights.

    Args:
        image_shape: (C, H, W).
        config: sizes of the networks.

    Raises:
        ValueError: if the image is too small for the number of convolutions.
    """

    def __init__(self, image_shape: tuple[int, int, int], config: NetworkConfig) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.latent_dim = config.latent_dim
        front: list[nn.Module] = []
        back: list[nn.Module] = []
        shape = image_shape
        if config.network == "conv":
            front, back, shape = convolutions(image_shape, config.channels, config.upsampling)
        features = math.prod(shape)
        inward = [features, *config.hidden]
        self.encoder = nn.Sequential(*front, nn.Flatten(), *_dense(inward), nn.Linear(inward[-1], self.latent_dim))
        widths = [self.latent_dim, *config.decoder_widths]
        expand = [nn.Linear(widths[-1], features)] + ([nn.ReLU()] if back else [])
        self.decoder = nn.Sequential(*_dense(widths), *expand, nn.Unflatten(1, shape), *back, nn.Sigmoid())
        self.apply(_glorot_uniform)

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> codes (N, D)."""
        codes: Tensor = self.encoder(images)
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (N, D) -> images (N, C, H, W) in [0, 1]."""
        images: Tensor = self.decoder(codes)
        return images

    def forward(self, images: Tensor) -> Tensor:
        return self.decode(self.encode(images))


def _dense(widths: list[int]) -> list[nn.Module]:
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]


def convolutions(
    image_shape: tuple[int, int, int], channels: tuple[int, ...], upsampling: Upsampling
) -> tuple[list[nn.Module], list[nn.Module], tuple[int, int, int]]:
    """One halving convolution per entry of ``channels``, layers that undo these, and the shape in between."""
    height, width = image_shape[1:]
    sizes = [(height >> i, width >> i) for i in range(len(channels) + 1)]
    if min(sizes[-1]) < 1:
        fit = min(height, width).bit_length() - 1
        raise ValueError(
            f"{len(channels)} convolutions of stride 2 need images of at least {1 << len(channels)} pixels a side, "
            f"got {height}x{width}: at most {fit} fit"
        )
    counts = [image_shape[0], *channels]
    front: list[nn.Module] = []
    back: list[nn.Module] = []
    for i, (few, many) in enumerate(pairwise(counts)):
        front += [nn.Conv2d(few, many, KERNEL, STRIDE, PADDING), nn.ReLU()]
        (h, w), (small_h, small_w) = sizes[i], sizes[i + 1]
        up: list[nn.Module]
        if upsampling == "nearest":
            up = [nn.Upsample((h, w)), nn.Conv2d(many, few, 3, padding=1)]
        else:
            odd = (h - 2 * small_h, w - 2 * small_w)  # the row and column that halving dropped
            up = [nn.ConvTranspose2d(many, few, KERNEL, STRIDE, PADDING, output_padding=odd)]
        back = up + ([nn.ReLU()] + back if back else [])
    return front, back, (channels[-1], *sizes[-1])


def _glorot_uniform(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
