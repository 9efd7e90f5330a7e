"""A trained model and what can be done with it: the commands as methods, on tensors and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from segma_fast.trainer import latent, metrics, published
from segma_fast.trainer.checkpoints import find_checkpoint, load_weights
from segma_fast.trainer.config import TrainConfig, build_model
from segma_fast.trainer.config_file import load_config
from segma_fast.trainer.data import ImageData
from segma_fast.trainer.export import export
from segma_fast.trainer.models import MODELS, ImageModel
from segma_fast.trainer.picture_input import as_images
from segma_fast.trainer.run_folder import CONFIG, REPORT, SCORES, DataInfo, load_figures, why_no_model

BATCH = 1000  # pictures or codes in the networks at once

if TYPE_CHECKING:
    from segma_fast.trainer.picture_input import Pictures

    Classes = int | str | Sequence[int | str] | Tensor
    """number or name of a class: one for all pictures, or one each; for models without labels, the component"""


@dataclass(frozen=True)
class Run:
    """A trained model with its configuration and the description of its data set; see :func:`load_run`.

    Pictures go in as tensors, PIL pictures or files, and come out as tensors in [0, 1] on the model's device. Files and
    PIL pictures are cropped and resized as the data set was; light on dark stays light on dark.
    """

    folder: Path
    config: TrainConfig
    data: DataInfo
    model: ImageModel = field(repr=False)
    step: int
    address: str = ""
    """hf://owner/name or the folder of a checkpoint, if the model is from there"""

    def load_data(self) -> ImageData:
        """The data set that the model was trained on.

        Raises:
            ValueError: if it is not there any more, or has changed.
        """
        return self.data.find(self.config.data)

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

    def save_pretrained(self, folder: Path | str) -> Path:
        """Write the model to a folder that can be handed on, with a model card; :func:`load_run` opens it.

        It holds weights, configuration, pictures and figures, but nothing to go on training, and no path of this
        machine.

        Raises:
            ValueError: for a folder that holds something else.
        """
        return published.save(self, Path(folder))

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | None = None, commit_message: str | None = None
    ) -> str:  # fmt: skip
        """Upload the same to the Hugging Face Hub, as ``owner/name``, and return its address there.

        Arguments are those of ``huggingface_hub``; without a token it takes that of ``hf auth login``.

        Raises:
            ValueError: for a ``repo_id`` that is not ``owner/name``.
        """
        return published.push(self, repo_id, private, token, commit_message)

    def export(self, folder: Path | str) -> list[Path]:
        """Write encoder.pt2 and decoder.pt2, which ``torch.export.load`` opens where segma_fast is not installed.

        Images (n, C, H, W) in [0, 1] to the codes of :meth:`encode`, codes to images; any n ≥ 1, float32, on the CPU.

        Raises:
            ValueError: if the folder is a file, or for a model whose encoder draws random numbers: ADGM and CaGeM.
        """
        return export(self.model, self.data.image_shape, Path(folder))

    @classmethod
    def from_pretrained(
        cls, source: Path | str, device: torch.device | str = "cpu", *, revision: str | None = None,
        token: str | None = None,
    ) -> Run:  # fmt: skip
        """Open a model from a folder, or from the Hugging Face Hub as ``owner/name`` if there is no such folder.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        if Path(source).exists() or str(source).startswith("hf:"):
            return load_run(source, device, revision=revision, token=token)
        return load_run(f"{published.HUB}{source}", device, revision=revision, token=token)

    def evaluate(self, data: ImageData | None = None) -> metrics.Evaluation:
        """Test error, reconstruction error and d² on the test set, which is loaded unless ``data`` is given."""
        data, device = self.load_data() if data is None else data, self.model.device
        labels = data.test_labels.to(device) if data.labelled else None
        return metrics.evaluate(self.model, data.test_images.to(device), labels, data.classes)

    @property
    def about(self) -> str:
        """A line for captions: model, data, labels, sizes, and the steps and test error of a run that has ended."""
        config, labels = self.config, self.config.used_labels
        found = [MODELS[config.model].title, self.data.name, f"{labels} labels" if labels else "no labels"]
        found.append(f"D = {config.network.latent_dim}")
        for file, steps in ((REPORT, "steps"), (SCORES, "step")):
            with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                ended = load_figures(self.folder / file)  # if it has ended, and at this step
                error = 100 * float(ended["test_error"])
                if ended[steps] == self.step and not math.isnan(error):
                    found.append(f"{self.step} steps · test error {error:.2f} %")
                    break
        return " · ".join(found)

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
    run_dir: Path | str, device: torch.device | str = "cpu", *, revision: str | None = None, token: str | None = None
) -> Run:  # fmt: skip
    """Load the model of a run folder, in evaluation mode; no file in it is unpickled or run.

    Args:
        run_dir: a run folder, or one of its ``checkpoints/``; a folder of :meth:`Run.save_pretrained`, or
            ``hf://owner/name`` on the Hugging Face Hub.
        device: where the model goes.
        revision, token: branch, tag or commit on the Hub, and what opens a private one.

    Raises:
        ValueError: if the folder holds no run, no checkpoint yet, or a damaged one, or if the Hub has no such model.
    """
    address = f"{published.HUB}{str(run_dir).removeprefix('hf:').strip('/')}" if str(run_dir).startswith("hf:") else ""
    given = published.fetch(address, revision, token) if address else Path(run_dir)
    run_dir, checkpoint = find_checkpoint(given)
    if checkpoint is None and (step_of_weights := published.published_step(run_dir)) is not None:
        checkpoint = run_dir, step_of_weights
    if checkpoint is None or not (run_dir / CONFIG).exists():
        raise ValueError(why_no_model(run_dir))
    config, data = load_config(run_dir / CONFIG), DataInfo.load(run_dir)
    model = build_model(config, data.image_shape, len(data.class_names))
    load_weights(checkpoint[0], model)
    address = address or str(given) * (given != run_dir)
    return Run(run_dir, config, data, model.to(device).eval(), checkpoint[1], address)
