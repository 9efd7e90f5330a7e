"""Data sets without a network and with a cache of the test's own."""

import datasets
import pytest
from made import gray, make


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No network, and no cache but the test's own; HF_HUB_OFFLINE was read when the libraries were imported."""
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def small(tmp_path):
    columns = {"image": gray(40, 5), "label": [0, 1] * 20}
    return make(tmp_path / "small", {"train": columns, "test": columns})
