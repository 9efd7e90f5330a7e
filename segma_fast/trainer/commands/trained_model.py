"""The commands on a trained model that print, or hand it on; ``pictures.py`` has those that write a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch import Tensor

from segma_fast.trainer import metrics, report
from segma_fast.trainer.commands.full_help import with_plain_help
from segma_fast.trainer.figures import views
from segma_fast.trainer.published import first_line
from segma_fast.trainer.run import Run, load_run

DEFAULT_RUN = Path("runs/digits")


def as_command(function: Callable[..., None]) -> Callable[[list[str]], None]:
    """Turn a typed function into a command that takes a list of command-line arguments."""

    def run(arguments: list[str]) -> None:
        prog, config = f"segma-fast {function.__name__}", (tyro.conf.FlagCreatePairsOff,)
        with_plain_help(lambda: tyro.cli(function, prog=prog, args=arguments, config=config), arguments)

    return run


def some_images(run: Run, count: int = 5, pairs: bool = False) -> tuple[str, ...]:
    """The numbers of the first test images, or of some of each class; ``pairs`` are of two classes where possible."""
    labels = run.load_data().test_labels
    rows = views.mixed(labels, count)
    if pairs and len(labels[rows].unique()) < count:
        rows = rows[labels[rows].argsort(stable=True)][: count // 2 * 2].reshape(2, -1).T.flatten()
    return tuple(str(row) for row in rows.tolist())


def chosen_images(run: Run, items: tuple[str, ...]) -> tuple[Tensor, list[int | None]]:
    """Test images by number and picture files as (n, C, H, W) in [0, 1], with the labels that are known."""
    numbers = [int(item) if item.removeprefix("-").isdecimal() else None for item in items]
    data = run.load_data() if any(number is not None for number in numbers) else None
    found: list[Tensor] = []
    labels: list[int | None] = []
    for item, number in zip(items, numbers, strict=True):
        if number is None or data is None:
            if not Path(item).exists():
                raise ValueError(f"{item} is neither the number of a test image nor a picture file")
            found.append(run.pictures(item)[0])
            labels.append(None)
            continue
        if not 0 <= number < len(data.test_images):
            raise ValueError(f"test images are numbered 0 ... {len(data.test_images) - 1}, got {item}")
        found.append(run.pictures(data.test_images[number])[0])
        labels.append(int(data.test_labels[number]) if data.labelled else None)
    return torch.stack(found), labels


@as_command
def classify(run_dir: Path = DEFAULT_RUN, dataset: str | None = None, images: tuple[str, ...] = ()) -> None:
    """Say which class images belong to, with its probability by the model's main classifier.

    examples:
      segma-fast classify --images 3 17 40
      segma-fast classify --images mine.png

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        images: test images by number, or picture files, light on dark if the training pictures are;
            default five of different classes
    """
    run = load_run(run_dir, dataset=dataset)
    images = images or some_images(run)
    chosen, labels = chosen_images(run, images)
    classifier, posterior = next(iter(run.model.posteriors(run.model.encode(chosen)).items()))
    names = run.data.class_names
    print(f"by {classifier}:")
    for item, row, label in zip(images, posterior, labels, strict=True):
        best = int(row.argmax())
        found = f"class {names[best]}" if run.model.names_classes(len(names)) else f"component {best}"
        truth = "" if label is None else f"   (label: {names[label]})"
        print(f"{item:>12}   {found}   {100 * row[best].item():.1f} %{truth}")


@as_command
def evaluate(
    run_dir: Path = DEFAULT_RUN,
    dataset: str | None = None,
    likelihood_samples: int = 0,
    likelihood_images: int | None = None,
) -> None:
    """Test error, reconstruction error and d² of a trained model on its test set; log p(x) where it has one.

    examples:
      segma-fast evaluate
      segma-fast evaluate --run-dir runs/mnist
      segma-fast evaluate --run-dir runs/mnist-cagem --likelihood-samples 100

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        dataset: folder of the pictures that the model was trained on, if it is not where the training found it
        likelihood_samples: importance-weighted samples of log p(x) for each test image; 0 leaves it out
        likelihood_images: test images, at random, of which log p(x) is estimated, all if there are fewer; default 1000
    """
    if likelihood_samples < 0:
        raise ValueError(f"likelihood_samples must be >= 0, got {likelihood_samples}")
    if likelihood_images is not None and likelihood_images < 2:
        raise ValueError(f"likelihood_images must be >= 2, got {likelihood_images}")
    if likelihood_images is not None and not likelihood_samples:
        raise ValueError("likelihood_images needs likelihood_samples, the samples for each image, which are 0")
    run = load_run(run_dir, dataset=dataset)
    data = run.load_data()
    result = run.evaluate(data)
    print(report.quality_table(run.config.model, data.name, run.config.used_labels, result, len(data.test_labels)))
    if likelihood_samples:
        by = metrics.ImportanceSampling(likelihood_samples, likelihood_images or metrics.ImportanceSampling.images)
        print(report.likelihood(metrics.mean_log_likelihood(run.model, data.test_images, by), likelihood_samples))


@as_command
def publish(
    run_dir: Path = DEFAULT_RUN, out: Path | None = None, repo: str | None = None, private: bool = False
) -> None:  # fmt: skip
    """Write a model to a folder that can be handed on, or upload it to the Hugging Face Hub, with a model card.

    Commands take such a folder, or owner/name, as --run-dir. To upload, log in first: hf auth login.

    examples:
      segma-fast publish --run-dir runs/mnist --out segma-mnist
      segma-fast publish --run-dir runs/mnist --repo owner/segma-mnist --private

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        out: folder to write
        repo: owner/name on the Hub
        private: for you alone, if the Hub has no such repository yet
    """
    if (out is None) == (repo is None):
        raise ValueError("give --out FOLDER or --repo OWNER/NAME")
    run = load_run(run_dir)
    if out is not None:
        print(run.save_pretrained(out))
        return
    try:
        print(run.push_to_hub(str(repo), private=private or None))
    except ValueError:
        raise
    except Exception as error:  # of many kinds: no network, not logged in, no access
        raise ValueError(f"{repo} cannot be uploaded to the Hugging Face Hub: {first_line(error)}") from error


@as_command
def export(run_dir: Path = DEFAULT_RUN, out: Path = Path("exported")) -> None:
    """Write encoder and decoder as programs of torch.export, which torch alone runs, for any number of images.

    encoder.pt2 takes images in [0, 1] to codes, decoder.pt2 takes codes to images; see Run.export in docs/python.md.

    examples:
      segma-fast export --run-dir runs/mnist --out exported

    Args:
        run_dir: folder of a run, or owner/name of a model on the Hugging Face Hub
        out: folder to write
    """
    for path in load_run(run_dir).export(out):
        print(path)
