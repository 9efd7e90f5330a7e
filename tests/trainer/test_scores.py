"""The scores of the paper's experiments, Fréchet distance and classifier, and its figures, on noise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segma_fast.trainer.config import NetworkConfig
from segma_fast.trainer.data import DataConfig, ImageData
from segma_fast.trainer.experiments import frechet, paper_figures
from segma_fast.trainer.experiments.classifier import Classifier, trained_classifier
from segma_fast.trainer.run import Run
from segma_fast.trainer.run_folder import DataInfo

CPU = torch.device("cpu")
PICTURES = ["samples.png", "interpolations.png", "transfer.png", "intensity.png", "means.png", "codes.png"]


def noise(rows: int = 300, channels: int = 1, size: int = 12) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 10
    images = torch.randint(0, 100, (rows, channels, size, size), generator=generator) + 15 * labels[:, None, None, None]
    images = images.to(torch.uint8)
    return ImageData("noise", images, labels, images.flip(0), labels.flip(0), tuple("0123456789"))


def frechet_by_scipy(a: Tensor, b: Tensor) -> float:
    from scipy.linalg import sqrtm

    a, b = a.double().numpy(), b.double().numpy()
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(first @ second).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


@pytest.mark.filterwarnings("ignore:Matrix is singular")
def test_frechet_distance_is_that_of_the_features(tmp_path: Path) -> None:
    data = noise()
    distance = frechet.FrechetDistance(data, DataConfig(cache=tmp_path), CPU, "classifier")
    assert distance.of([data.test_images]) == pytest.approx(0, abs=1e-3)
    model, _ = trained_classifier(data, next(tmp_path.glob("classifier-*.pt")), CPU)
    other = noise(200, size=12).train_images.flip(-1)
    with torch.no_grad():
        expected = frechet_by_scipy(model(other), model(data.test_images))
    assert distance.of(other.split(70)) == pytest.approx(expected, rel=1e-3)
    assert distance.of([other / 255]) == pytest.approx(expected, rel=1e-3)  # floating point in [0, 1]


@pytest.mark.slow
def test_classifier_is_kept_and_made_anew_where_damaged(tmp_path: Path) -> None:
    data, file = noise(2000, channels=3), tmp_path / "classifier.pt"
    model, accuracy = trained_classifier(data, file, CPU)
    assert accuracy > 0.9
    again, same = trained_classifier(data, file, CPU)
    assert same == accuracy and all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    file.write_bytes(b"damaged")
    assert trained_classifier(data, file, CPU)[1] == accuracy
    torch.save({"model": Classifier(1, 3).state_dict(), "accuracy": 1.0}, file)  # of other data
    assert trained_classifier(data, file, CPU)[1] == accuracy
    with pytest.warns(UserWarning, match="could not be kept in"):
        assert trained_classifier(data, file / "below", CPU)[1] == accuracy


def test_inception_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="torch-fidelity: pip install"):
        frechet.FrechetDistance(noise(), DataConfig(cache=tmp_path), CPU, "inception")
    assert not frechet.FrechetDistance(noise(), DataConfig(cache=tmp_path), CPU).is_inception
    monkeypatch.setattr(frechet, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="nothing.pth: download weights-inception"):
        frechet.FrechetDistance(noise(), DataConfig(cache=tmp_path), CPU, "auto", tmp_path / "nothing.pth")


def test_inception_where_it_is_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in torch-fidelity's layout."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is missing")
    monkeypatch.setattr(extractor, "load_state_dict_from_url", lambda *_, **__: {}, raising=False)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
    network = extractor.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    monkeypatch.undo()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    distance = frechet.FrechetDistance(noise(20), DataConfig(cache=tmp_path), CPU, "auto", tmp_path / "weights.pth")
    assert distance.is_inception and distance.features == "Inception v3"
    assert distance.of([noise(20).test_images]) == pytest.approx(0, abs=1e-2)
    (tmp_path / "weights.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="weights.pth does not hold Inception's weights"):
        frechet.FrechetDistance(noise(20), DataConfig(cache=tmp_path), CPU, "auto", tmp_path / "weights.pth")


@pytest.mark.parametrize("classes", [[0, 1, 1, 2, 2, 2, 2], [3, 3, 0, 5, 5]])
def test_pairs_of_one_class_and_of_two(classes: list[int]) -> None:
    """Every image is the partner of every other of the kind equally often."""
    labels = torch.tensor(classes)
    generator = torch.Generator().manual_seed(0)
    for same in (True, False):
        for row in range(len(labels)):
            partners = frechet._partners(labels, torch.full((8000,), row), same, generator)
            share = partners.bincount(minlength=len(labels)) / 8000
            allowed = (labels == labels[row]) == same
            expected = allowed.float() / allowed.sum()
            torch.testing.assert_close(share, expected, atol=0.03, rtol=0)
            assert (share[~allowed] == 0).all()


def test_figures_of_classes_that_are_there(tmp_path: Path) -> None:
    from segma_fast.trainer.config import TrainConfig, build_model

    data = noise()
    kept = data.test_labels < 3
    data = replace(data, test_images=data.test_images[kept], test_labels=data.test_labels[kept])
    config = TrainConfig(network=NetworkConfig(latent_dim=9, hidden=(8,)))
    run = Run(tmp_path, config, DataInfo.of(data), build_model(config, data.image_shape, data.classes), 0)
    paths = paper_figures.draw_figures(run, data, tmp_path)
    assert [path.name for path in paths] == PICTURES and all(path.exists() for path in paths)
    first = json.dumps([path.read_bytes().hex() for path in paths[:4]])
    assert first == json.dumps([p.read_bytes().hex() for p in paper_figures.draw_figures(run, data, tmp_path)[:4]])
