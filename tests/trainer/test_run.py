"""A loaded run: the commands as methods, on tensors, PIL pictures and files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import segma_fast.trainer as trainer
from segma_fast.trainer import DataError, Run, load_run, picture_grid, save_pictures, starting_config, train
from segma_fast.trainer.figures import views


@pytest.fixture(scope="module")
def lines() -> list[dict[str, float]]:
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, float]]) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    config = starting_config("digits").with_options(
        run_dir=str(folder), epochs=4, hidden=(32,), latent_dim=3, means_init="normal", log_every=10
    )
    train(config, on_metrics=lambda line: lines.append(dict(line)))
    return load_run(folder)


def test_metrics_as_they_come(run: Run, lines: list[dict[str, float]]) -> None:
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    assert len(lines) == len(rows) - 1 > 3
    assert lines[0]["step"] == 10 and "test_error" in lines[-1] and "test_error" not in lines[0]
    assert f"{lines[-1]['loss']:.7g}" == rows[-1].split(",")[rows[0].split(",").index("loss")]


def test_repr_is_short(run: Run, tmp_path: Path) -> None:
    """Without the layers of the network and the pixels of the data set."""
    outcome = train(starting_config("digits").with_options(run_dir=tmp_path, epochs=1, hidden=(8,)))
    for text in (repr(outcome), repr(run)):
        assert "Linear" not in text and "tensor(" not in text
    assert "test_error=" in repr(outcome) and "step=52" in repr(run)


def test_pictures_of_every_kind(run: Run, tmp_path: Path) -> None:
    data = run.load_data()
    pixels = data.test_images[3, 0].numpy()
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "three.png")
    expected = data.test_images[3:4] / 255
    for given in (data.test_images[3], expected[0], picture, tmp_path / "three.png", str(tmp_path / "three.png")):
        torch.testing.assert_close(run.pictures(given), expected)
    both = run.pictures([picture, data.test_images[3], tmp_path / "three.png"])
    torch.testing.assert_close(both, expected.expand(3, -1, -1, -1))
    large = picture.convert("RGB").resize((80, 80), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    resized = run.pictures(large)
    assert torch.equal(run.pictures(tmp_path / "large.png"), resized) and (resized - expected).abs().mean() < 0.1


def test_methods_are_the_commands(run: Run) -> None:
    images = run.load_data().test_images[:6]
    codes = run.encode(images)
    assert codes.shape == (6, 3) and run.decode(codes).shape == (6, 1, 8, 8)
    probabilities = run.classify(images)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(6))
    assert run.sample(4).shape == (10, 4, 1, 8, 8) and torch.equal(run.sample(4, "7", seed=1), run.sample(4, 7, seed=1))
    way = run.interpolate(images[:2], images[2:4], 5)
    torch.testing.assert_close(way[:, 0], run.decode(codes[:2]))
    torch.testing.assert_close(way[:, -1], run.decode(codes[2:4]))
    source = probabilities.argmax(1)
    for to in (3, "3", torch.tensor(3), [3] * 6, torch.full((6,), 3)):
        moved = run.transfer(images, to, 4)
        shift = run.model.direction(codes, source, torch.full((6,), 3))
        torch.testing.assert_close(moved[:, -1], run.decode(codes + shift))
    stronger = run.intensify(images, away_from=3, alpha=2.0, steps=3)
    torch.testing.assert_close(stronger[:, -1], run.decode(codes - 2 * shift))
    assert run.evaluate().test_error == pytest.approx(
        float((classes(run) != run.load_data().test_labels).float().mean())
    )


def classes(run: Run) -> torch.Tensor:
    return run.classify(run.load_data().test_images).argmax(1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least one picture, got none"),
        (torch.zeros(2, 1, 8, 9), r"shape \(1, 8, 8\), got \(1, 8, 9\)"),
        (torch.full((1, 1, 8, 8), 255.0), "in \\[0, 1\\], got numbers from 255 to 255"),
        (torch.full((1, 8, 8), float("nan")), "in \\[0, 1\\], got numbers from nan to nan"),
        (np.zeros((8, 8)), "got ndarray .torch.from_numpy"),
        (7, "a tensor, a PIL picture or a file, got int"),
        ("nowhere.png", "nowhere.png"),
        (Image.new("I;16", (8, 8)), "8 bits a channel"),
        (torch.ones(1, 8, 8, dtype=torch.bool), "uint8 or floating point in \\[0, 1\\], got torch.bool"),
        (torch.ones(1, 8, 8, dtype=torch.int64), "got torch.int64"),
    ],
)
def test_pictures_that_do_not_fit(given: object, said: str, run: Run) -> None:
    with pytest.raises((ValueError, DataError), match=said):
        run.pictures(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_pictures_in_other_precisions(run: Run, kind: torch.dtype) -> None:
    images = run.load_data().test_images[:3]
    codes = run.encode((images / 255).to(kind))
    torch.testing.assert_close(codes, run.encode(images), atol=0.05, rtol=0.05)
    assert run.decode(codes.to(kind)).dtype == torch.float32


def test_codes_that_do_not_fit(run: Run) -> None:
    for codes in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(0, 3)):
        with pytest.raises(ValueError, match=r"codes must be of shape \(n, 3\) with n >= 1, got"):
            run.decode(codes)


def test_many_pictures_are_encoded_in_batches(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    images = run.load_data().test_images[:7]
    whole = run.encode(images)
    monkeypatch.setattr("segma_fast.trainer.run.BATCH", 3)
    torch.testing.assert_close(run.encode(images), whole)
    torch.testing.assert_close(run.decode(whole), torch.cat([run.decode(whole[:4]), run.decode(whole[4:])]))


def test_a_class_name_that_does_not_exist_is_no_number(run: Run) -> None:
    """Where classes are named by numbers, a text is a name and nothing else."""
    named = replace(run, data=replace(run.data, class_names=tuple("9876543210")))
    assert named.component("9") == 0 and named.component(9) == 9
    for given in ("10", "٣", "03", "²", -1, 10):
        with pytest.raises(ValueError, match=r"component must be in 0 ... 9 or one of 9, 8, 7, .*, got"):
            named.component(given)
    words = replace(run, data=replace(run.data, class_names=tuple("abcdefghij")))
    assert words.component("c") == 2 == words.component("2")


def test_captions_are_of_the_weights(run: Run) -> None:
    """A report of another step, or a damaged one, is left out."""
    report = run.folder / "report.json"
    plain = "SeGMA · digits · 100 labels · D = 3"
    step = f'"steps": {run.step}'
    for text in ("[]", "{", '{"steps": 1, "test_error": 0.5}', f"{{{step}}}", f'{{{step}, "test_error": "x"}}'):
        report.write_text(text)
        assert run.about == plain
    report.write_text(f'{{{step}, "test_error": 0.125}}')
    assert run.about == f"{plain} · {run.step} steps · test error 12.50 %"
    report.unlink()


def test_pictures_of_a_run_without_metrics(run: Run, tmp_path: Path) -> None:
    """A small test set, and a name that is no formula of matplotlib's."""
    data = run.load_data()
    few = replace(data, test_images=data.test_images[:4], test_labels=data.test_labels[:4])
    copy = replace(run, folder=tmp_path, data=replace(run.data, name="$a_{$"))
    names = {path.name for path in save_pictures(copy, few)}
    assert {"reconstructions.png", "confusion.png"} <= names and "curves.png" not in names
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe")
    assert "curves.png" not in {path.name for path in save_pictures(copy, few)}
    (tmp_path / "metrics.csv").write_text("epoch,loss\n1,2\nx,3\n2,\n3,1\n")
    assert "curves.png" in {path.name for path in save_pictures(copy, few)}


def test_a_metric_may_end_the_run_once_its_weights_are_saved(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def until(line: Mapping[str, float]) -> None:
        if "test_error" in line:
            raise Enough

    config = starting_config("digits").with_options(run_dir=tmp_path, epochs=9, hidden=(8,), checkpoint_every=20)
    with pytest.raises(Enough):
        train(config, on_metrics=until)
    assert load_run(tmp_path).step == 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mixed_precision": "half"}, "mixed_precision must be one of 'no', 'bf16', got 'half'"),
        ({"epochs": 1.0}, "epochs must be of type int, got 1.0"),
        ({"classifier": "equation"}, "objective.classifier must be one of"),
        ({"learning_rate": np.float32(1e-3)}, "learning_rate must be of type float"),
        ({"dataset": Path("digits")}, "data.dataset must not be"),
    ],
)
def test_configurations_that_no_file_would_bring_back(options: dict[str, object], said: str, tmp_path: Path) -> None:
    config = starting_config("digits").with_options(run_dir=tmp_path / "run", **options)
    with pytest.raises(ValueError, match=said):
        train(config)
    assert not (tmp_path / "run").exists()


def test_classes_that_do_not_exist(run: Run) -> None:
    images = run.load_data().test_images[:2]
    for given, said in (
        (10, "to must be in 0 ... 9, got 10"),
        ("seven", "got seven"),
        ([1], "one for each of 2 pictures, got 1"),
    ):
        with pytest.raises(ValueError, match=said):
            run.transfer(images, given)
    with pytest.raises(ValueError, match=r"component must be in 0 ... 9, got -1"):
        run.sample(1, -1)
    with pytest.raises(ValueError, match="alpha must be from"):
        run.intensify(images, alpha=float("nan"))


def test_options_by_the_names_of_the_flags() -> None:
    base = starting_config("mnist")
    changed = base.with_options(dataset="./mnist", hidden=(8,), network="conv", alpha=3.0, epochs=2, run_dir="here")
    assert (changed.data.dataset, changed.network.hidden, changed.network.network) == ("./mnist", (8,), "conv")
    assert changed.objective.alpha == 3.0 and changed.run_dir == Path("here") and base.epochs == 500  # type: ignore[attr-defined]
    for wrong in ("colour", "model", "data", "objective"):
        with pytest.raises(ValueError, match=f"unknown option '{wrong}' of the model 'segma'"):
            base.with_options(**{wrong: 1})
    assert base.with_options(hidden=[8, 9]).network.hidden == (8, 9)
    with pytest.raises(ValueError, match="epochs must be >= 1, got 0"):
        base.with_options(epochs=0)
    with pytest.raises(ValueError, match="a value of epochs is of another type"):
        base.with_options(epochs="3")


def test_grids_have_names(run: Run) -> None:
    images = run.load_data().test_images[:6]
    plain = picture_grid(images)
    assert plain.size == (6 * 68 + 4, 72)
    named = picture_grid(images[None], "A title\nwhat it is", ["first"], [str(i) for i in range(6)])
    left, top = named.width - plain.width, named.height - plain.height
    assert left > 20 and top > 50
    assert np.array_equal(np.asarray(named.convert("L"))[top:, left:], np.asarray(plain))
    view = views.transfers(run, images, to=2, steps=3)
    assert [row.split(" → ")[1] for row in view.rows] == ["2"] * 6 and list(view.columns) == [
        "real",
        "0.00",
        "0.50",
        "1.00",
    ]
    assert view.title.endswith("SeGMA · digits · 100 labels · D = 3") and view.picture().width > 4 * 68
    for shape, rows in (((2, 2, 8, 8), ()), ((8, 8), ()), ((1, 2, 1, 8, 8), ("a", "b"))):
        with pytest.raises(ValueError, match="must be"):
            picture_grid(torch.zeros(shape), rows=rows)


def test_public_names_are_there_and_say_what_is_missing() -> None:
    assert all(getattr(trainer, name).__doc__ for name in trainer.__all__) and set(trainer.__all__) == set(dir(trainer))
    names = {"folder", "config", "data", "model", "step", "address", "dataset"}
    assert {field.name for field in fields(Run)} == names
    with pytest.raises(AttributeError, match="nothing"):
        trainer.nothing  # noqa: B018
    for package, name in (("accelerate", "train"), ("huggingface_hub", "Run")):
        program = (
            f"import sys; sys.modules[{package!r}] = None\n"
            "import segma_fast.trainer\n"
            f"try: segma_fast.trainer.{name}\n"
            "except ModuleNotFoundError as error: print(error)"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert f'needs the package {package}: pip install "segma-fast[train]"' in found.stdout


def test_denormal_numbers_are_zero_while_it_trains(tmp_path: Path) -> None:
    """They would slow a training that has become sure of its labels; the caller's own rule comes back."""

    def divided() -> float:
        return (torch.full((64,), 1e-38) / 100).max().item()

    found: list[float] = []
    config = starting_config("digits").with_options(run_dir=tmp_path, epochs=1, hidden=(8,), log_every=1)
    for flushed in (False, True):
        torch.set_flush_denormal(flushed)
        try:
            before = divided()
            train(config, overwrite=True, on_metrics=lambda line: found.append(divided()))
            assert divided() == before and (before == 0) == flushed
        finally:
            torch.set_flush_denormal(False)
    assert found and not any(found)
