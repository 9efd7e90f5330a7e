"""A trained model and what can be done with it: the commands as methods, on tensors and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer import latent, metrics
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.export import export
from segma_fast.trainer.hub_model import HubModel
from segma_fast.trainer.picture_input import as_images

BATCH = 1000  # pictures or codes in the networks at once

if TYPE_CHECKING:
    from segma_fast.trainer.picture_input import Pictures

    Classes = int | str | Sequence[int | str] | Tensor
    """number or name of a class: one for all pictures, or one each; for models without labels, the component"""


@dataclass(frozen=True)
class Run(HubModel):
    """A trained model with its configuration and the description of its data set; see :func:`load_run`.

    Pictures go in as tensors, PIL pictures or files, and come out as tensors in [0, 1] on the model's device. Files and
    PIL pictures are cropped and resized as the data set was; light on dark stays light on dark.
    """

    def pictures(self, given: Pictures) -> Tensor:
        """Pictures as the model takes them, (n, C, H, W) in [0, 1].

        Raises:
            ValueError: for none, another shape than (C, H, W) of the data set, or numbers outside [0, 1].
            DataError: for a file that is no picture, or one that is smaller than the crop.
        """
        return as_images(given, self.data.image_shape, self.config.data.crop, self.model.device)

    def encode(self, images: Pictures) -> Tensor:
        """The codes of pictures, (n, D) for SeGMA; other models' codes may hold the class too."""
        pictures = self.pictures(images)
        return torch.cat([self.model.encode(batch) for batch in pictures.split(BATCH)])

    def decode(self, codes: Tensor) -> Tensor:
        """The pictures of codes as :meth:`encode` returns them, (n, D): (n, C, H, W) in [0, 1].

        Raises:
            ValueError: for another shape.
        """
        generator = torch.Generator(self.model.device).manual_seed(0)
        width = self.model.sample(1, generator=generator).shape[1]
        if codes.ndim != 2 or codes.shape[1] != width or not len(codes):
            raise ValueError(f"codes must be of shape (n, {width}) with n >= 1, got {tuple(codes.shape)}")
        codes = codes.to(self.model.device, torch.float32)
        return torch.cat([self.model.decode(batch) for batch in codes.split(BATCH)])

    def classify(self, images: Pictures) -> Tensor:
        """The probability of each class, or component, by the model's main classifier: (n, K), rows sum to 1."""
        return next(iter(self.model.posteriors(self.encode(images)).values()))

    def sample(
        self, n: int = 10, component: int | str | None = None, *, seed: int = 0, spread: float = 1.0
    ) -> Tensor:  # fmt: skip
        """Pictures drawn from the mixture: (K, n, C, H, W), or (1, n, C, H, W) of one component.

        With a ``spread`` below 1 codes are closer to the centre of their component, with one above 1 farther from it.

        Raises:
            ValueError: for n < 1, a spread that is not from 0 to 1e6, a seed of more than 64 bits, or a component that
                does not exist.
        """
        generator = self._generator(seed)
        chosen = None if component is None else self.component(component)
        return latent.sample_components(self.model, n, chosen, spread=spread, generator=generator)

    def sample_in_every_class(
        self, n: int = 10, component: int | str = 0, *, seed: int = 0, spread: float = 1.0
    ) -> Tensor:  # fmt: skip
        """Pictures of n codes of a component, each moved to every component, equation (10): (n, K, C, H, W).

        Raises:
            ValueError: as :meth:`sample`, and for a model with one component.
        """
        self._check_several()
        generator = self._generator(seed)
        chosen = self.component(component)
        return latent.sample_in_every_class(self.model, n, chosen, spread=spread, generator=generator)

    def interpolate(self, first: Pictures, second: Pictures, steps: int = 10) -> Tensor:
        """Pictures along the lines between the codes of n pairs, both ends decoded too: (n, steps, C, H, W)."""
        return latent.interpolate(self.model, self.pictures(first), self.pictures(second), steps)

    def transfer(self, images: Pictures, to: Classes | None = None, steps: int = 10, until: float = 1.0) -> Tensor:
        """Pictures on their way to another class, keeping their style, equation (10): (n, steps, C, H, W).

        Args:
            images: n pictures; their classes are what the model takes them for.
            to: the class to move to; default each one's next.
            steps: from t = 0 to ``until``, at least 2.
            until: the last t; 1 is the other class, and more is beyond it.

        Raises:
            ValueError: for a class that does not exist, steps < 2, an ``until`` beyond ±1e6, or one component.
        """
        chosen = self.pictures(images)
        return latent.transfer(self.model, chosen, *self.source_and_other(chosen, to, "to"), steps, until)

    def intensify(
        self, images: Pictures, away_from: Classes | None = None, alpha: float = 0.5, steps: int = 10
    ) -> Tensor:
        """Pictures with more and more of what sets them apart from a class, equation (11): (n, steps, C, H, W).

        Args:
            images: n pictures; their classes are what the model takes them for.
            away_from: the class to move away from; default each one's next.
            alpha: how far; negative values weaken the difference.
            steps: from t = 0 to 1, at least 2.

        Raises:
            ValueError: for a class that does not exist, steps < 2, an α beyond ±1e6, or one component.
        """
        chosen = self.pictures(images)
        return latent.intensify(
            self.model, chosen, *self.source_and_other(chosen, away_from, "away_from"), alpha, steps
        )

    def export(self, folder: Path | str) -> list[Path]:
        """Write encoder.pt2 and decoder.pt2, which ``torch.export.load`` opens where segma_fast is not installed.

        Images (n, C, H, W) in [0, 1] to the codes of :meth:`encode`, codes to images; any n ≥ 1, float32, on the CPU.

        Raises:
            ValueError: if the folder is a file, or for a model whose encoder draws random numbers: ADGM and CaGeM.
        """
        return export(self.model, self.data.image_shape, Path(folder))

    def evaluate(self, data: ImageData | None = None) -> metrics.Evaluation:
        """Test error, reconstruction error and d² on the test set, which is loaded unless ``data`` is given."""
        data, device = self.load_data() if data is None else data, self.model.device
        labels = data.test_labels.to(device) if data.labelled else None
        return metrics.evaluate(self.model, data.test_images.to(device), labels, data.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the model's K components: the classes', or numbers if it was trained without labels."""
        named = self.model.names_classes(len(self.data.class_names))
        return self.data.class_names if named else tuple(str(k) for k in range(self.model.components))

    def component(self, given: int | str, argument: str = "component") -> int:
        """The number of a component, given by number or by the name of its class.

        Raises:
            ValueError: if there is none.
        """
        if isinstance(given, str) and given in self.names:
            return self.names.index(given)
        last, plain = self.model.components - 1, self.names == tuple(str(k) for k in range(self.model.components))
        as_number = not isinstance(given, str) or not any(name.isdecimal() for name in self.names)  # else it is a name
        text = str(given)
        if not (as_number and text.isascii() and text.isdecimal() and int(text) <= last):
            named = "" if plain else f" or one of {', '.join(self.names)}"
            raise ValueError(f"{argument} must be in 0 ... {last}{named}, got {given}")
        return int(text)

    def source_and_other(self, images: Tensor, given: Classes | None, argument: str) -> tuple[Tensor, Tensor]:
        """The classes that images (n, C, H, W) are taken for, and those to move to or from, (n,) each."""
        self._check_several()
        components = self.model.components
        source = latent.classify(self.model, images)
        if given is None:
            return source, (source + 1) % components
        each = given.tolist() if isinstance(given, Tensor) else given
        each = [each] * len(source) if isinstance(each, int | str | np.integer) else each
        if len(each) != len(source):
            raise ValueError(f"{argument} must be one class or one for each of {len(source)} pictures, got {len(each)}")
        return source, torch.tensor([self.component(one, argument) for one in each], device=source.device)

    def _generator(self, seed: int) -> torch.Generator:
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed must be from 0 to 2^64 - 1, got {seed}")
        return torch.Generator(self.model.device).manual_seed(seed)

    def _check_several(self) -> None:
        if self.model.components == 1:
            raise ValueError(f"{self.folder} has one component: there is no other to move to or away from")


def load_run(
    run_dir: Path | str, device: torch.device | str = "cpu", *, dataset: Path | str | None = None,
    revision: str | None = None, token: str | None = None,
) -> Run:  # fmt: skip
    """Load the model of a run folder, in evaluation mode; no file in it is unpickled or run.

    Args:
        run_dir: a run folder, or one of its ``checkpoints/``; a folder of :meth:`Run.save_pretrained`; or a model on
            the Hugging Face Hub as ``hf://owner/name``, or as ``owner/name`` where there is no such folder, both with
            ``@revision`` behind if it is not the newest.
        device: where the model goes.
        dataset: folder of the pictures that it was trained on, if they are not where the training found them.
        revision, token: branch, tag or commit on the Hub, and what opens a private one.

    Raises:
        ValueError: if the folder holds no run, no checkpoint yet, or a damaged one, or if the Hub has no such model.
    """
    return Run.from_pretrained(run_dir, device, dataset=dataset, revision=revision, token=token)
