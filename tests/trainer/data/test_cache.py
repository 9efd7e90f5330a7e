"""The cache of decoded pictures: used, made anew when it has to be, written whole or not at all."""

import io
import os
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from made import cache_files, encoded, gray, make

from segma_fast.trainer.data import DataConfig, load_data, loading


def forbid_loading(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("loaded again")

    monkeypatch.setattr(datasets, "load_dataset", fail)


def same(left, right):
    fields = ("train_images", "train_labels", "test_images", "test_labels")
    return left.class_names == right.class_names and all(
        torch.equal(getattr(left, field), getattr(right, field)) for field in fields
    )


def test_the_second_load_reads_the_cache_only(tmp_path, small, monkeypatch):
    first = load_data(DataConfig(dataset=small))
    assert [file.suffix for file in cache_files(tmp_path)] == [".pt"]
    assert cache_files(tmp_path)[0].name.startswith("small-")
    forbid_loading(monkeypatch)
    assert same(load_data(DataConfig(dataset=small)), first)
    monkeypatch.chdir(tmp_path)
    assert same(load_data(DataConfig(dataset="small", cache=tmp_path / "cache")), first)


def test_other_fields_and_other_files_are_other_entries(tmp_path, small):
    first = load_data(DataConfig(dataset=small))
    assert load_data(DataConfig(dataset=small, size=2)).image_shape == (1, 2, 2)
    assert len(cache_files(tmp_path)) == 2
    time.sleep(0.01)
    columns = {"image": gray(40, 6), "label": [1, 0] * 20}
    make(tmp_path / "small", {"train": columns})
    changed = load_data(DataConfig(dataset=small))
    assert np.array_equal(changed.train_images[:, 0], np.stack(columns["image"]))
    assert torch.equal(changed.train_labels, 1 - first.train_labels)
    assert torch.equal(changed.test_images, first.test_images)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_made_anew(tmp_path, small, damage, monkeypatch):
    first = load_data(DataConfig(dataset=small))
    (file,) = cache_files(tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        place = content.find(first.train_images.numpy().tobytes())
        assert place > 0
        content[place + 17] ^= 4
    elif damage == "foreign":
        buffer = io.BytesIO()
        torch.save({"images": torch.zeros(3)}, buffer)
        content = bytearray(buffer.getvalue())
    file.write_bytes(bytes(content[: {"cut": len(content) // 2, "empty": 0}.get(damage)]))
    with pytest.warns(UserWarning, match="damaged"):
        assert same(load_data(DataConfig(dataset=small)), first)
    forbid_loading(monkeypatch)
    assert same(load_data(DataConfig(dataset=small)), first)


def test_nothing_is_left_of_a_write_that_fails(tmp_path, small, monkeypatch):
    save = torch.save

    def interrupted(content, path):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_data(DataConfig(dataset=small))
    assert cache_files(tmp_path) == []
    monkeypatch.setattr(torch, "save", save)
    replaced = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (replaced.append((Path(a), Path(b))), replace(a, b)))
    load_data(DataConfig(dataset=small))
    ((draft, final),) = [pair for pair in replaced if pair[1].suffix == ".pt"]
    assert draft.parent == final.parent and cache_files(tmp_path) == [final]


def test_a_cache_that_cannot_be_written_is_no_end(tmp_path, small):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert load_data(DataConfig(dataset=small)).train_labels.tolist() == [0, 1] * 20


def test_a_cache_inside_the_data_set_does_not_change_it(tmp_path, small, monkeypatch):
    config = DataConfig(dataset=small, cache=Path(small) / "cache")
    first = load_data(config)
    forbid_loading(monkeypatch)
    assert same(load_data(config), first)


def test_a_name_on_the_hub_goes_by_the_fingerprints(tmp_path, monkeypatch):
    def table(seed):
        columns = {"image": [encoded(x) for x in gray(4, seed)], "label": [0, 1, 0, 1]}
        return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())

    served = datasets.DatasetDict(train=table(0), test=table(1))
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda path, **options: asked.append((path, options)) or served)
    first = load_data(DataConfig(dataset="someone/things", subset="small"))
    assert asked == [("someone/things", {"name": "small"})] and first.name == "someone/things"
    assert np.array_equal(first.train_images[:, 0], np.stack(gray(4, 0)))
    with monkeypatch.context() as patch:
        patch.setattr(loading, "decode_images", None)
        assert same(load_data(DataConfig(dataset="someone/things", subset="small")), first)
    served = datasets.DatasetDict(train=table(2), test=table(1))
    newer = load_data(DataConfig(dataset="someone/things", subset="small"))
    assert np.array_equal(newer.train_images[:, 0], np.stack(gray(4, 2)))
