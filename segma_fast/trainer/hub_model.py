"""What a trained model consists of, and how it is opened, saved and uploaded: huggingface_hub's mixin."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from segma_fast.trainer import published
from segma_fast.trainer.checkpoints import find_checkpoint, load_weights
from segma_fast.trainer.config import TrainConfig, build_model
from segma_fast.trainer.config_file import load_config
from segma_fast.trainer.data import UNLABELLED, ImageData, load_data
from segma_fast.trainer.model_card import is_as_written, model_card
from segma_fast.trainer.models import MODELS, ImageModel
from segma_fast.trainer.run_folder import CONFIG, REPORT, SCORES, DataInfo, load_figures, why_no_model


@dataclass(frozen=True)
class HubModel(ModelHubMixin):
    """A trained model with its configuration and the description of its data set, without what it can do."""

    folder: Path
    config: TrainConfig
    data: DataInfo
    model: ImageModel = field(repr=False)
    step: int
    address: str = ""
    """hf://owner/name or the folder of a checkpoint, if the model is from there"""
    dataset: str | None = None
    """where its data set is now, if not where the configuration says"""

    _hub_mixin_config = {}  # of the mixin, not a field: it shall write no configuration of its own

    @property
    def about(self) -> str:
        """A line for captions: model, data, labels, sizes, and the steps and test error of a run that has ended."""
        config, labels = self.config, self.config.used_labels
        found = [MODELS[config.model].title, self.data.name, f"{labels} labels" if labels else "no labels"]
        found.append(f"D = {config.network.latent_dim}")
        for file, steps in ((REPORT, "steps"), (SCORES, "step")):
            with suppress(*published.DAMAGED):
                ended = load_figures(self.folder / file)  # if it has ended, and at this step
                error = 100 * float(ended["test_error"])
                if ended[steps] == self.step and not math.isnan(error):
                    found.append(f"{self.step} steps · test error {error:.2f} %")
                    break
        return " · ".join(found)

    def load_data(self) -> ImageData:
        """The data set that the model was trained on; if ``dataset`` was given, that one.

        Raises:
            ValueError: if it is not there any more, or has changed; a given one must have the same image shape and
                class names.
        """
        if self.dataset is None:
            return self.data.find(self.config.data)
        config = replace(self.config.data, dataset=self.dataset)
        data = load_data(config, labelled=self.data.class_names != UNLABELLED)
        self.data.check_same(DataInfo.of(data), "image_shape", "class_names")
        return data

    def save_pretrained(  # type: ignore[override]
        self, save_directory: Path | str, *, config: Any = None, repo_id: str | None = None, push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None, **push_to_hub_kwargs: Any,
    ) -> Path | str:  # fmt: skip
        """Write the model to a folder that can be handed on, with a model card; :func:`load_run` opens it.

        It holds weights, configuration, pictures and figures, but nothing to go on training, and no path of this
        machine. In a folder of such a model, as in a clone of its repository, its files are replaced and others stay;
        so does a README.md that was edited.

        Args:
            save_directory: the folder.
            config: without effect: the configuration is that of the training.
            repo_id: ``owner/name`` on the Hub, for ``push_to_hub``.
            push_to_hub: upload it, too, with the arguments of :meth:`push_to_hub` that follow.
            model_card_kwargs: arguments of the card: ``address`` is what it calls the model.

        Returns:
            The folder, or what :meth:`push_to_hub` returns.

        Raises:
            ValueError: for a folder that holds something else, or a ``repo_id`` that is not ``owner/name``.
        """
        folder = Path(save_directory).expanduser().absolute()
        repo_id = repo_id or folder.name
        if push_to_hub:
            published.check_id(repo_id)
        card, write = {"address": folder.name} | (model_card_kwargs or {}), super().save_pretrained
        published.save(folder, lambda draft: write(draft, model_card_kwargs=card), lambda text: not is_as_written(text))
        return self.push_to_hub(repo_id, **push_to_hub_kwargs) if push_to_hub else folder

    def push_to_hub(
        self, repo_id: str, *, config: Any = None, commit_message: str | None = None, private: bool | None = None,
        token: str | None = None, branch: str | None = None, create_pr: bool | None = None,
        allow_patterns: list[str] | str | None = None, ignore_patterns: list[str] | str | None = None,
        delete_patterns: list[str] | str | None = None, model_card_kwargs: dict[str, Any] | None = None,
    ) -> str:  # fmt: skip
        """Upload the same to the Hugging Face Hub, as ``owner/name``, and return the address of the commit.

        Arguments are those of ``huggingface_hub``; without a token it takes that of ``hf auth login``. Pictures and
        figures of an earlier upload that this model does not have are deleted; other files on the Hub stay. The card
        is replaced unless ``ignore_patterns="README.md"``.

        Raises:
            ValueError: for a ``repo_id`` that is not ``owner/name``.
        """
        published.check_id(repo_id)
        former = filter_repo_objects(
            published.missing(self), allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        more = [delete_patterns] if isinstance(delete_patterns, str) else delete_patterns or []
        return super().push_to_hub(
            repo_id, commit_message=commit_message or f"{MODELS[self.config.model].title}, {self.step} steps",
            private=private, token=token, branch=branch, create_pr=create_pr,
            allow_patterns=allow_patterns, ignore_patterns=ignore_patterns, delete_patterns=[*former, *more],
            model_card_kwargs={"address": published.HUB + repo_id} | (model_card_kwargs or {}),
        )  # fmt: skip

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, pretrained_model_name_or_path: Path | str, device: torch.device | str = "cpu", *,
        dataset: Path | str | None = None, force_download: bool = False, token: str | bool | None = None,
        cache_dir: Path | str | None = None, local_files_only: bool = False, revision: str | None = None,
    ) -> Self:  # fmt: skip
        """Open a model as :func:`load_run` does, with the further arguments of ``huggingface_hub`` for a download.

        Raises:
            ValueError: if there is none, or it is damaged.
        """
        return cls._from_pretrained(  # not by the mixin's own method, which makes arguments of config.json
            model_id=str(pretrained_model_name_or_path), revision=revision, cache_dir=cache_dir, token=token,
            force_download=force_download, local_files_only=local_files_only, device=device, dataset=dataset,
        )  # fmt: skip

    def generate_model_card(self, address: str = "", **_: Any) -> ModelCard:
        """The card, in which the model is called by its address."""
        return model_card(self, address)

    def _save_pretrained(self, save_directory: Path) -> None:
        published.write_files(self, save_directory)

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, revision: str | None, device: torch.device | str, dataset: Path | str | None,
        **download: Any,
    ) -> Self:  # fmt: skip
        on_hub = published.find_on_hub(model_id, revision)
        if dataset == "":
            raise ValueError("dataset must name a folder or a data set on the Hub, got ''")
        given = published.fetch(on_hub, **download) if on_hub else Path(model_id).expanduser()
        folder, checkpoint = find_checkpoint(given)
        if checkpoint is None and (step_of_weights := published.published_step(folder)) is not None:
            checkpoint = folder, step_of_weights
        if checkpoint is None or not (folder / CONFIG).exists():
            raise ValueError(published.why_unreadable(folder) or why_no_model(folder))
        config, data = load_config(folder / CONFIG), DataInfo.load(folder)
        model = build_model(config, data.image_shape, len(data.class_names))
        load_weights(checkpoint[0], model)
        address = on_hub.address if on_hub else str(given) * (given != folder)
        dataset = None if dataset is None else str(dataset)
        return cls(folder, config, data, model.to(device).eval(), checkpoint[1], address, dataset)
