"""What errors say about data sets that cannot be used."""

import sys
import time

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from made import encoded, gray, make, random_pixels

from segma_fast.trainer.data import DataConfig, DataError, load_data


def test_a_name_that_is_nowhere(monkeypatch, tmp_path):
    begin = time.monotonic()
    with pytest.raises(DataError, match="'nobody/no-such-set' is not a local folder.*cannot be reached"):
        load_data(DataConfig(dataset="nobody/no-such-set"))
    assert time.monotonic() - begin < 3
    for path in (str(tmp_path / "absent"), "./absent", "a/b/c"):
        with pytest.raises(DataError, match="neither an existing folder nor a name on the Hub"):
            load_data(DataConfig(dataset=path))

    def missing(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'x/y' doesn't exist on the Hub or cannot be accessed.")

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(DataError, match="'x/y' is not a local folder, and is not on the Hugging Face Hub or is priv"):
        load_data(DataConfig(dataset="x/y"))


class Answer:
    headers: dict = {}
    request = None
    status_code = 404


def test_the_hub_is_asked_once(monkeypatch):
    """Whether it has the data set; without a network only what was loaded before is looked for."""
    asked, offline = [], []

    def answer(error):
        def dataset_info(api, name, timeout):
            asked.append((name, timeout <= 10))
            raise error

        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)

    def load_dataset(*args, **kwargs):
        offline.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ConnectionError("Couldn't reach 'x/y'")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    answer(huggingface_hub.errors.RepositoryNotFoundError("404, a page of text", response=Answer()))
    with pytest.raises(DataError, match="^dataset 'x/y' is not a local folder, and is not on .* or is private there$"):
        load_data(DataConfig(dataset="x/y"))
    assert asked == [("x/y", True)] and not offline
    gated = huggingface_hub.errors.GatedRepoError("", response=Answer())
    for error, expected in ((OSError("no route"), True), (gated, False)):
        answer(error)
        with pytest.raises(DataError, match="'x/y' is not a local folder, and the Hugging Face Hub cannot be reached"):
            load_data(DataConfig(dataset="x/y"))
        assert offline.pop() == (expected, expected)
        assert not datasets.config.HF_HUB_OFFLINE and not constants.HF_HUB_OFFLINE


def test_subsets(tmp_path):
    for seed, name in enumerate(["one", "two"]):
        columns = {"image": gray(2, seed), "label": [0, 1]}
        make(tmp_path / "several" / name, {"train": columns, "test": columns})
    (tmp_path / "several" / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_dir: one\n- config_name: two\n  data_dir: two\n---\n"
    )
    path = str(tmp_path / "several")
    second = load_data(DataConfig(dataset=path, subset="two"))
    assert np.array_equal(second.train_images[:, 0], np.stack(gray(2, 1)))
    with pytest.raises(DataError, match=r"several subsets, set subset to one of \['one', 'two'\]"):
        load_data(DataConfig(dataset=path))
    with pytest.raises(DataError, match="no subset 'three'.*'one', 'two'"):
        load_data(DataConfig(dataset=path, subset="three"))


def test_folders_without_pictures(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty' has no pictures or tables"):
        load_data(DataConfig(dataset=str(tmp_path / "empty")))
    path = make(tmp_path / "table", {"train": {"height": [1.0, 2.0] * 2, "label": [0, 1, 0, 1]}})
    with pytest.raises(DataError, match="no column of pictures among 'height', 'label'; set image_column"):
        load_data(DataConfig(dataset=path))
    with pytest.raises(DataError, match="row 0 of split 'train' cannot be read"):
        load_data(DataConfig(dataset=path, image_column="height"))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "train.parquet").write_bytes(b"PAR1 is all that is right here")
    with pytest.raises(DataError, match="broken' could not be loaded"):
        load_data(DataConfig(dataset=str(tmp_path / "broken")))


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"image_column": "img"}, "no column 'img' .image_column.; there are 'image', 'label'"),
        ({"label_columns": ("label", "kind")}, "no column 'kind' .label_columns.; there are 'image', 'label'"),
        ({"train_splits": ("train", "extra")}, "no split 'extra' .train_splits.; there are 'train', 'test'"),
        ({"test_split": "val"}, "no split 'val' .test_split.; there are 'train', 'test'"),
        ({"train_splits": ("train", "test"), "test_split": "test"}, "used once"),
        ({"label_columns": ("image",)}, "'image' must hold integers, strings or booleans"),
        ({"crop": 5}, "got 5 and row 0 of split 'train' is 4x4 pixels"),
    ],
)
def test_fields_that_do_not_fit(small, fields, words):
    with pytest.raises(DataError, match=words):
        load_data(DataConfig(dataset=small, **fields))


@pytest.mark.parametrize("fields", [{"test_fraction": 0.0}, {"test_fraction": 1.0}, {"crop": 0}, {"size": -2}])
def test_numbers_out_of_range(fields):
    ((name, value),) = fields.items()
    with pytest.raises(DataError, match=f"{name} must be .*got {value}"):
        DataConfig(**fields)


def test_pictures_of_different_sizes(tmp_path):
    columns = {"image": [*gray(300), random_pixels(1, 4, 7)], "label": [0, 1, 1] * 100 + [0]}
    path = make(tmp_path / "sizes", {"train": {"image": gray(2), "label": [0, 1]}, "test": columns})
    with pytest.raises(DataError, match="row 300 of split 'test' is 7x4 pixels, the first picture is 4x4 pixels"):
        load_data(DataConfig(dataset=path))


def test_pictures_that_cannot_be_read(tmp_path):
    whole = encoded(random_pixels(0, 30, 30))
    pictures = [whole] * 4
    pictures[2] = {"bytes": whole["bytes"][:200], "path": "kept/as.png"}
    labels = [0, 1, 0, 1]
    path = make(tmp_path / "cut", {"train": {"image": pictures, "label": labels}})
    with pytest.raises(DataError, match=r"row \d of split 'train' .kept/as.png. cannot be read") as caught:
        load_data(DataConfig(dataset=path))
    assert "row 2" in str(caught.value)
    pictures[2] = None
    path = make(tmp_path / "none", {"train": {"image": pictures, "label": labels}})
    with pytest.raises(DataError, match="row 2 of split 'train' has no picture"):
        load_data(DataConfig(dataset=path))
    for kind in ("cat", "dog"):
        (tmp_path / "files" / kind).mkdir(parents=True)
        for i in range(2):
            (tmp_path / "files" / kind / f"{i}.png").write_bytes(whole["bytes"])
    (tmp_path / "files" / "dog" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="row 3 of split 'train' .*files/dog/1.png. cannot be read"):
        load_data(DataConfig(dataset=str(tmp_path / "files")))
    assert not (tmp_path / "cache").exists()


def test_broken_pictures_can_be_left_out(tmp_path, monkeypatch):
    pictures = [*gray(20), {"bytes": b"no picture", "path": "7.png"}, None]
    order = [20, *range(10), 21, *range(10, 20)]
    columns = {"image": [pictures[i] for i in order], "label": [i % 2 for i in order]}
    path = make(tmp_path / "some", {"train": columns, "test": {"image": gray(3, 1), "label": [0, 1, 0]}})
    with pytest.raises(DataError, match="row 0 of split 'train' .7.png. cannot be read.*--skip-broken leaves"):
        load_data(DataConfig(dataset=path))
    with pytest.warns(UserWarning, match="2 of the 25 pictures of .* are left out, the first because .*7.png") as told:
        some = load_data(DataConfig(dataset=path, skip_broken=True))
    assert len(told) == 1 and np.array_equal(some.train_images[:, 0], np.stack(pictures[:20]))
    assert some.train_labels.tolist() == [0, 1] * 10 and len(some.test_labels) == 3
    assert torch.equal(load_data(DataConfig(dataset=path, skip_broken=True)).train_images, some.train_images)
    split = {"image": [*gray(10), None, None], "label": [0] * 10 + [1] * 2}
    with pytest.warns(UserWarning, match="2 of the 12"):
        rest = load_data(DataConfig(dataset=make(tmp_path / "one", {"train": split}), skip_broken=True))
    assert (len(rest.train_labels), len(rest.test_labels)) == (8, 2)
    no_test = {"train": columns, "test": {"image": [None], "label": [1]}}
    none = {"train": {"image": [None] * 4, "label": [0, 0, 1, 1]}}
    for parts, said in ((no_test, "no picture is left to test on"), (none, "no picture .* can be read: row 0")):
        with pytest.raises(DataError, match=said):
            load_data(DataConfig(dataset=make(tmp_path / said[-5:], parts), skip_broken=True))


def test_a_class_of_one_row_cannot_be_split(tmp_path):
    path = make(tmp_path / "lonely", {"train": {"image": gray(3), "label": ["a", "b", "a"]}})
    with pytest.raises(DataError, match="class 'b' has 1 row"):
        load_data(DataConfig(dataset=path))


@pytest.mark.parametrize("module, package", [("datasets", "datasets"), ("PIL.Image", "pillow")])
def test_a_library_that_is_not_installed(small, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf'{package} is needed.*pip install "segma-fast\[train\]"'):
        load_data(DataConfig(dataset=small))


def test_scikit_learn_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match="scikit-learn is needed"):
        load_data(DataConfig())
