"""A Cramer-Wold auto-encoder written from scratch: ``python examples/cwae.py``.

An encoder, a decoder and one line for the loss, ``error + log d²(codes, N(0, I))``. The codes' distance to the
normal distribution falls from that of the untrained encoder to nearly that of numbers drawn from it, so that decoded
draws look like digits.

Output::

    step  1000   squared error  0.692   log d²  -5.54
    step  2000   squared error  0.551   log d²  -5.94
    step  3000   squared error  0.470   log d²  -5.96
    step  4000   squared error  0.373   log d²  -5.89
    d² to N(0, I): untrained 7.1e-01, trained 8.6e-04, as many drawn numbers 4.7e-04
    decoded draws:
        ..%%%%              **##::            ##@@::            @@@@              ++@@--
        ::--@@            ++@@%%%%::        ==@@**..          ##@@==            ##%%==##
          --@@            %%**  ##--        @@##              @@**            ==%%....**
      ..**@@%%::::      ::%%    %%..      --@@::  ####      ..@@++            ==++..++++
        ##@@##::::      ::::  ..%%..      **@@..  @@**      ::@@@@%%@@::        --##%%++
          **            ..==--@@##        **@@##::@@::        @@%%  **@@        ++%%::::::
          %%              ::%%@@            ++%%@@@@          ..@@  ++@@        ==%%----==
        ..==..              ##--              ++@@::            **@@@@%%          ==@@@@==
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads sleep; to be set before its import
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # but not at once

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from segma_fast import cw_normality, fast_cw_distance

DIM = 8


def network(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def drawing(image: Tensor) -> list[str]:
    """An 8×8 image in [0, 1] as lines of text."""
    return ["".join(" .:-=+*#%@"[int(9.99 * value)] * 2 for value in row) for row in image.view(8, 8).tolist()]


def main(steps: int) -> None:
    torch.manual_seed(0)
    images = torch.from_numpy(load_digits().images).float().flatten(1) / 16  # 1,797 digits of 8×8 pixels
    encoder, decoder = network(64, 256, 256, DIM), nn.Sequential(network(DIM, 256, 256, 64), nn.Sigmoid())
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 1e-3)
    origin = torch.zeros(1, DIM)  # the prior as a mixture: one component of variance 1
    with torch.no_grad():
        before = cw_normality(encoder(images), phi="exact")

    for step in range(1, steps + 1):
        x = images[torch.randint(len(images), (256,))]
        z = encoder(x)
        error = (decoder(z) - x).square().sum(1).mean()
        distance = fast_cw_distance(z, origin, log=True, phi="exact")
        optimizer.zero_grad()
        (error + distance).backward()
        optimizer.step()
        if step % max(1, steps // 4) == 0:
            print(f"step {step:5}   squared error {error.item():6.3f}   log d² {distance.item():6.2f}")

    with torch.no_grad():
        after = cw_normality(encoder(images), phi="exact")
        drawn = cw_normality(torch.randn(len(images), DIM), phi="exact")
        print(f"d² to N(0, I): untrained {before:.1e}, trained {after:.1e}, as many drawn numbers {drawn:.1e}")
        print("decoded draws:")
        samples = [drawing(image) for image in decoder(torch.randn(5, DIM))]
    print("\n".join("  ".join(lines).rstrip() for lines in zip(*samples, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4000)
    main(**vars(parser.parse_args()))
