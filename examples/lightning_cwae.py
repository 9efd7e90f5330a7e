"""The same loss inside a LightningModule: ``python examples/lightning_cwae.py`` (needs ``segma-fast[lightning]``).

``CWDistanceLoss`` is an ordinary module, so Lightning moves, logs and checkpoints what there is; a bfloat16 trainer
would run the networks in half precision and the distance in float32.

Output::

    1050 steps, the last: {'squared error': 0.841, 'log d²': -5.709}
    d² to N(0, I): untrained 7.1e-01, trained 2.0e-03
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's idle threads sleep; to be set before its import
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # but not at once

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from segma_fast import CWDistanceLoss, cw_normality

DIM = 8


class CWAE(lightning.LightningModule):
    """An auto-encoder whose codes are fitted to N(0, I)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, DIM))
        self.decoder = nn.Sequential(nn.Linear(DIM, 256), nn.ReLU(), nn.Linear(256, 64), nn.Sigmoid())
        self.distance = CWDistanceLoss(log=True, phi="exact")
        self.register_buffer("origin", torch.zeros(1, DIM))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        (images,) = batch
        codes = self.encoder(images)
        error = (self.decoder(codes) - images).square().sum(1).mean()
        distance = self.distance(codes, self.origin)
        self.log_dict({"squared error": error, "log d²": distance})
        return error + distance

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


def main(epochs: int) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    lightning.seed_everything(0, verbose=False)
    images = torch.from_numpy(load_digits().images).float().flatten(1) / 16
    model = CWAE()
    with torch.no_grad():
        before = cw_normality(model.encoder(images), phi="exact")
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(TensorDataset(images), batch_size=256, shuffle=True, drop_last=True))
    with torch.no_grad():
        after = cw_normality(model.encoder(images), phi="exact")
    last = {name: round(value.item(), 3) for name, value in trainer.logged_metrics.items()}
    print(f"{trainer.global_step} steps, the last: {last}")
    print(f"d² to N(0, I): untrained {before:.1e}, trained {after:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=150)
    main(**vars(parser.parse_args()))
