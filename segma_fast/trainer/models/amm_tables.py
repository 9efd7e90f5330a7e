"""Sizes of the networks of AMM: the paper's tables 3-10 and a fully connected analogue.

How gaps and misprints in the tables are resolved:

- Table 6 (the discriminator for 28x28) has lost its layout in the available text. Its columns are read as convolutions
  with 32, 32, 64, 64, 128 channels and the kernel sizes and strides of table 3, and y and z streams with 64 features,
  concatenated to 256 features.
- As printed, table 9 ends at 16x16, with 4 channels in y6 and 3 in x. Its "4 | 2 | 1" is read as kernel size 4, stride
  2 and 3 channels, which gives 32x32.
- Tables 7 and 10 give x one channel; here x has as many channels as the images. Their convolutions keep the spatial
  size, except x7, which reduces 8x8 to 6x6 for the 6x6 average pooling. Activation comes before pooling.
- Table 10 concatenates x5, y2 and z2 and computes p from p1. Read as x9 and p2, the last layers of their kind.
- Table 4 computes the log variance from zeros, table 8 from y, and the text says that it is learned. Here it is
  learned, one per component, and starts at zero.
- Tables 3 and 7 are for equation (7). For equation (6) the streams are swapped and a dense layer takes y as an input.

The fully connected analogue has dense layers instead of convolutions, and the prior of table 8. It has no dropout,
which would take a fifth of the time on a CPU.

Weights start from torch's defaults, except those of the last layer of the prior's means, which are drawn so that means
are about N(0, 2²), and the inferred log variances, which start at -3. With torch's defaults everywhere, the components
start at one point and noise hides the classes; digits were then clustered worse than before training. With the paper's
N(0, 0.02²) for all weights, little of an image reaches the end of the discriminator, which has no batch norm: MNIST's
convolutions had not learned the classes after 45 epochs.
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from segma_fast.trainer.models.amm_networks import SLOPE, Decoder, Discriminator, Encoder, Pair, Prior, Shape, dense
from segma_fast.trainer.models.autoencoder import NetworkConfig

MNIST = ((32, 2, 1), (32, 3, 2), (64, 3, 2), (64, 3, 1), (128, 4, 1))  # channels, kernel size, stride; no padding
MEANS_SCALE, LOG_VARIANCE = 2.0, -3.0  # initial values
SVHN = (96, 96, 96, 192, 192, 192, 384)  # channels of x1 ... x7, kernel size 3
SIZES = {"mnist": (28, 28), "svhn": (32, 32)}
"""image sizes that the paper's convolutions are made for"""
Networks = tuple[Encoder, Decoder, Prior, Discriminator]


def choose_architecture(architecture: str, network: str, shape: Shape) -> str:
    """Resolve "auto" for images of shape (C, H, W); ``ValueError`` if the paper has no networks for that size."""
    size = shape[1:]
    if architecture == "auto":
        fitting = [name for name, of in SIZES.items() if of == size]
        architecture = "dense" if network == "dense" else (fitting or ["auto"])[0]
    if architecture != "dense" and SIZES.get(architecture) != size:
        flag, asked = ("network", "conv") if architecture == "auto" else ("architecture", architecture)
        raise ValueError(
            f"{flag}={asked!r} with images of {size[0]}x{size[1]}: the paper's convolutions are made for 28x28 "
            f"(mnist) and 32x32 (svhn); {flag}='dense' takes any size"
        )
    return architecture


def build_networks(
    architecture: str,
    shape: Shape,
    components: int,
    config: NetworkConfig,
    class_first: bool,
    heads: int,
    with_dropout: bool,
) -> Networks:
    """The networks of an architecture, "dense", "mnist" or "svhn", for images of a shape (C, H, W).

    Args:
        architecture: name of the architecture.
        shape: of the images.
        components: K.
        config: ``latent_dim`` L, and the layer widths if dense.
        class_first: equation (6) or, if false, (7).
        heads: number of output heads of the discriminator, each with its own dense layers.
        with_dropout: whether the convolutions have the dropout of the paper's tables.
    """
    channels, dim = shape[0], config.latent_dim
    trunk: nn.Module = nn.Identity()
    hidden: tuple[int, ...] = ()  # of the prior
    if architecture == "mnist":
        steps = [(a, *step) for (a, *_), step in pairwise([(channels,), *MNIST])]  # inputs, outputs, width, stride
        dropout = discriminating = 0.2 if with_dropout else 0.0
        pairs = [Pair((a, a), b, size, stride, dropout=dropout) for a, b, size, stride in steps]
        back = [(b, a, size, stride) for a, b, size, stride in steps[::-1]]
        of_x: list[nn.Module] = []
        for i, (a, b, size, stride) in enumerate(steps):
            of_x += [nn.Dropout(dropout if i else 0.0), nn.Conv2d(a, b, size, stride), nn.LeakyReLU(SLOPE)]
        width, side, hidden = 128, 64, (64, 64)
    elif architecture == "svhn":
        trunk = nn.Sequential(*_svhn_convolutions(channels, normalise=True))
        pairs = [Pair((384, 384), 192, 1), Pair((192, 192), 96, 1, pool=6)]
        back = [(512, 256, 4, 1), (256, 256, 3, 1), (256, 128, 3, 2), (128, 128, 3, 1), (128, channels, 4, 2)]
        dropout, discriminating = 0.0, 0.1 if with_dropout else 0.0
        of_x = _svhn_convolutions(channels, normalise=False, dropout=discriminating)
        for a, b in pairwise((384, 192, 96)):
            of_x += [nn.Conv2d(a, b, 1), nn.LeakyReLU(SLOPE)]
        of_x.append(nn.AvgPool2d(6))
        width, side = 96, 96
    else:
        trunk = nn.Flatten()
        inward = [math.prod(shape), *config.hidden]
        outward = [*config.decoder_widths, inward[0]]
        if len(inward) < 2 or len(outward) < 2:
            raise ValueError("hidden and decoder_hidden must name at least one width for this model, got none")
        pairs = [Pair((a, a), b) for a, b in pairwise(inward)]
        back = [(a, b, 0, 1) for a, b in pairwise(outward)]
        width, side, dropout, discriminating = inward[-1], max(1, inward[-1] // 2), 0.0, 0.0
        of_x = [nn.Flatten(), *dense(inward)]
    maps = architecture != "dense"
    enter = Pair((dim, components), back[0][0], 1 if maps else 0, up=True)
    up = [
        Pair((a, a), b, size, stride, up=True, dropout=dropout, last=i == len(back) - 1)
        for i, (a, b, size, stride) in enumerate(back)
    ]
    networks = (
        Encoder(trunk, pairs, width, components, dim, class_first),
        Decoder([enter, *up], shape, maps),
        Prior(components, dim, hidden, dropout),
        Discriminator(of_x, width, side, components, dim, discriminating, heads),
    )
    _start_apart(*networks[::2])
    return networks


def _svhn_convolutions(channels: int, normalise: bool, dropout: float = 0.0) -> list[nn.Module]:
    """x1 ... x7 of table 7 (with batch norm) or of table 10 (with dropout): (N, C, 32, 32) -> (N, 384, 6, 6)."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise([channels, *SVHN]), start=1):
        if not normalise and i in (4, 7):
            layers.append(nn.Dropout(dropout))
        layers.append(nn.Conv2d(a, b, 3, padding=0 if i == 7 else 1))
        layers += [nn.BatchNorm2d(b), nn.LeakyReLU(SLOPE)] if normalise else [nn.LeakyReLU(SLOPE)]
        if i in (3, 6):
            layers.append(nn.MaxPool2d(2))
    return layers


def _start_apart(encoder: Encoder, prior: Prior) -> None:
    """Initialise with separated components and low noise in the inferred y and z."""
    *hidden, last = prior.mean
    assert isinstance(last, nn.Linear)
    inputs = last.in_features if hidden else 1  # of about unit size; without hidden layers, the one that is the class
    nn.init.normal_(last.weight, std=MEANS_SCALE / math.sqrt(inputs))
    for layer in (encoder.to_y, encoder.to_z):
        nn.init.constant_(layer.bias[layer.out_features // 2 :], LOG_VARIANCE)
