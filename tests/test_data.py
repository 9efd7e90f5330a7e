"""Data sets made on the spot: pictures and labels as they come out, the cache, and what errors say."""

import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

datasets = pytest.importorskip("datasets")
pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

from segma_fast import data as data_module  # noqa: E402
from segma_fast.data import DataConfig, DataError, load_data  # noqa: E402


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No network, and no cache but the test's own; HF_HUB_OFFLINE was read when the libraries were imported."""
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setenv("SEGMA_FAST_CACHE", str(tmp_path / "cache"))


def random_pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, mode=None, format="PNG", **options):
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def make(folder: Path, splits: dict, label=None, image=None):
    """A folder of Parquet files; columns is a dictionary a split, ``image`` holds pixels or encoded pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, columns in splits.items():
        columns = dict(columns)
        if "image" in columns:
            columns["image"] = [encoded(x) if isinstance(x, np.ndarray) else x for x in columns["image"]]
        table = datasets.Dataset.from_dict(columns)
        if "image" in columns:
            table = table.cast_column("image", image or datasets.Image())
        if label is not None:
            table = table.cast_column("label", label)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


def gray(count, seed=0, size=4):
    return list(random_pixels(seed, count, size, size))


def cache_files(tmp_path):
    return sorted((tmp_path / "cache").iterdir())


# The digits ------------------------------------------------------------------------------------------------------


def test_digits_are_scaled_split_by_class_and_always_the_same():
    from sklearn.datasets import load_digits

    digits = load_data(DataConfig())
    assert (digits.name, digits.image_shape, digits.classes) == ("digits", (1, 8, 8), 10)
    assert digits.train_images.dtype == torch.uint8 and digits.train_labels.dtype == torch.int64
    source = load_digits()
    seen = {}
    for images, labels in (
        (digits.train_images, digits.train_labels),
        (digits.test_images, digits.test_labels),
    ):
        for image, label in zip(images, labels, strict=True):
            seen.setdefault((image.numpy().tobytes(), int(label)), 0)
            seen[image.numpy().tobytes(), int(label)] += 1
    wanted = {}
    for image, label in zip(source.images, source.target, strict=True):
        key = (np.array([[round(v * 255 / 16) for v in row] for row in image], np.uint8).tobytes(), int(label))
        wanted[key] = wanted.get(key, 0) + 1
    assert seen == wanted and len(digits.train_labels) + len(digits.test_labels) == 1797
    for label in range(10):
        total = int((source.target == label).sum())
        assert abs(int((digits.test_labels == label).sum()) - 0.2 * total) <= 0.5
    again, other = load_data(DataConfig()), load_data(DataConfig(split_seed=1, test_fraction=0.5))
    assert torch.equal(again.test_images, digits.test_images) and torch.equal(again.train_labels, digits.train_labels)
    assert not torch.equal(other.test_images[:300], digits.test_images[:300]) and len(other.test_labels) > 890


def test_digits_say_what_they_do_not_take(tmp_path):
    with pytest.raises(DataError, match="digits do not take size, got 16"):
        load_data(DataConfig(size=16))
    assert not (tmp_path / "cache").exists()


# Pictures --------------------------------------------------------------------------------------------------------


def test_gray_pictures_with_class_names(tmp_path):
    train, test = gray(600, 1), gray(3, 2)
    label = datasets.ClassLabel(names=["cat", "dog", "owl"])
    labels = [i % 3 for i in range(600)]
    path = make(tmp_path / "pets", {"train": {"image": train, "label": labels},
                                    "test": {"image": test, "label": [2, 2, 0]}}, label)  # fmt: skip
    pets = load_data(DataConfig(dataset=path))
    assert pets.name == "pets" and pets.class_names == ("cat", "dog", "owl") and pets.image_shape == (1, 4, 4)
    assert np.array_equal(pets.train_images[:, 0], np.stack(train))  # more rows than are read at once
    assert np.array_equal(pets.test_images[:, 0], np.stack(test))
    assert pets.train_labels.tolist() == labels and pets.test_labels.tolist() == [2, 2, 0]


def test_colour_keeps_its_channels_and_gray_can_be_asked_for(tmp_path):
    pixels = list(random_pixels(0, 4, 5, 6, 3))
    columns = {"image": pixels, "label": [0, 1, 0, 1]}
    path = make(tmp_path / "colour", {"train": columns, "test": columns})
    colour = load_data(DataConfig(dataset=path))
    assert colour.image_shape == (3, 5, 6)
    assert np.array_equal(colour.test_images.permute(0, 2, 3, 1), np.stack(pixels))
    one = load_data(DataConfig(dataset=path, grayscale=True))
    luma = np.stack(pixels) @ np.array([0.299, 0.587, 0.114])
    assert one.image_shape == (1, 5, 6) and np.abs(one.train_images[:, 0].numpy() - luma).max() <= 1


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_one_picture_in_colour_makes_all_three_channels(tmp_path, order):
    first, last = gray(2)
    pictures = [first, last, random_pixels(3, 4, 4, 3)]
    columns = {"image": [pictures[i] for i in order], "label": order}
    mixed = load_data(DataConfig(dataset=make(tmp_path / "mixed", {"train": columns, "test": columns})))
    images = mixed.train_images[torch.tensor(order).argsort()]
    assert np.array_equal(images[0], np.stack([first] * 3))
    assert np.array_equal(images[2].permute(1, 2, 0), pictures[2])


def test_modes_become_eight_bits(tmp_path):
    bits = (random_pixels(0, 4, 4) > 128).astype(np.uint8) * 255
    colour = random_pixels(1, 4, 4, 3)
    alpha = np.dstack([colour, np.full((4, 4), 255, np.uint8)])
    columns = {"image": [encoded(bits, "1"), encoded(bits, "1")], "label": [0, 1]}
    black = load_data(DataConfig(dataset=make(tmp_path / "bits", {"train": columns, "test": columns})))
    assert np.array_equal(black.train_images[0, 0], bits)
    columns = {"image": [alpha, encoded(bits, "P")], "label": [0, 1]}
    three = load_data(DataConfig(dataset=make(tmp_path / "alpha", {"train": columns, "test": columns})))
    assert np.array_equal(three.train_images[0].permute(1, 2, 0), colour)
    assert np.array_equal(three.train_images[1], np.stack([bits] * 3))
    columns = {"image": [encoded(random_pixels(2, 4, 4).astype(np.uint16) * 200)] * 2, "label": [0, 1]}
    path = make(tmp_path / "deep", {"train": columns, "test": columns})
    with pytest.raises(DataError, match="row 0 of split 'train' must have 8 bits a channel, got mode I;16"):
        load_data(DataConfig(dataset=path))


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path):
    pixels = random_pixels(0, 4, 6)
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees clockwise to view
    columns = {"image": [encoded(pixels, exif=exif)] * 2, "label": [0, 1]}
    turned = load_data(DataConfig(dataset=make(tmp_path / "turned", {"train": columns, "test": columns})))
    assert np.array_equal(turned.train_images[0, 0], np.rot90(pixels, -1))


def test_crop_takes_the_middle_and_resizing_averages(tmp_path):
    pixels = [random_pixels(0, 9, 12), random_pixels(1, 8, 8)]
    columns = {"image": pixels, "label": [0, 1]}
    path = make(tmp_path / "sizes", {"train": columns, "test": columns})
    middle = load_data(DataConfig(dataset=path, crop=6))
    assert np.array_equal(middle.train_images[0, 0], pixels[0][1:7, 3:9])
    assert np.array_equal(middle.train_images[1, 0], pixels[1][1:7, 1:7])
    small = load_data(DataConfig(dataset=path, crop=6, size=3))
    wanted = Image.fromarray(pixels[0][1:7, 3:9]).resize((3, 3), Image.Resampling.BILINEAR)
    assert np.array_equal(small.train_images[0, 0], np.asarray(wanted))
    board = (np.indices((8, 8)).sum(0) % 2).astype(np.uint8) * 255
    columns = {"image": [np.kron(board, np.ones((2, 2), np.uint8)), board], "label": [0, 1]}
    path = make(tmp_path / "board", {"train": columns, "test": columns})
    plain = load_data(DataConfig(dataset=path, size=2)).train_images
    assert plain.shape == (2, 1, 2, 2) and abs(plain.float() - 127.5).max() < 12  # picking pixels would give 0 or 255


def test_image_folder(tmp_path):
    pixels = {}
    for split, number in (("train", 3), ("test", 1)):
        for seed, kind in enumerate(("cat", "dog")):
            place = tmp_path / "pets" / split / kind
            place.mkdir(parents=True)
            for i in range(number):
                pixels[split, seed, i] = random_pixels(seed * 10 + i + 100 * (split == "test"), 4, 4, 3)
                Image.fromarray(pixels[split, seed, i]).save(place / f"{i}.png")
    pets = load_data(DataConfig(dataset=str(tmp_path / "pets")))
    assert pets.class_names == ("cat", "dog") and pets.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert pets.test_labels.tolist() == [0, 1]
    for row, (label, i) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]):
        assert np.array_equal(pets.train_images[row].permute(1, 2, 0), pixels["train", label, i])
    assert np.array_equal(pets.test_images[1].permute(1, 2, 0), pixels["test", 1, 0])


def test_saved_to_disk_and_arrays_for_pictures(tmp_path):
    pixels = gray(6)
    table = datasets.Dataset.from_dict({"image": [encoded(x) for x in pixels], "label": [0, 1] * 3})
    table = table.cast_column("image", datasets.Image()).select([4, 1, 2, 5, 0, 3])
    datasets.DatasetDict(train=table, test=table.select([1])).save_to_disk(tmp_path / "both")
    both = load_data(DataConfig(dataset=str(tmp_path / "both")))
    assert np.array_equal(both.train_images[:, 0], np.stack(pixels)[[4, 1, 2, 5, 0, 3]])
    assert np.array_equal(both.test_images[:, 0], np.stack(pixels)[[1]]) and both.test_labels.tolist() == [1]
    table.with_format("torch").save_to_disk(tmp_path / "single")
    single = load_data(DataConfig(dataset=str(tmp_path / "single"), test_fraction=0.34))
    assert single.test_labels.tolist() in ([0, 1], [1, 0]) and len(single.train_labels) == 4
    table = datasets.Dataset.from_dict({"png": [encoded(x)["bytes"] for x in pixels], "y": [0, 1] * 3})
    datasets.DatasetDict(train=table, test=table).save_to_disk(tmp_path / "raw")
    raw = load_data(DataConfig(dataset=str(tmp_path / "raw"), image_column="png"))
    assert np.array_equal(raw.train_images[:, 0], np.stack(pixels)) and raw.train_labels.tolist() == [0, 1] * 3


# Splits ----------------------------------------------------------------------------------------------------------


def test_several_training_splits_are_joined_in_order(tmp_path):
    parts = {name: {"image": gray(2, seed), "label": [seed, 3]} for seed, name in enumerate(["test", "extra", "train"])}
    make(tmp_path / "numbers" / "data", parts)  # where datasets looks for splits of any name
    config = DataConfig(dataset=str(tmp_path / "numbers"), train_splits=("train", "extra"))
    numbers = load_data(config)
    assert np.array_equal(numbers.train_images[:, 0], np.stack(parts["train"]["image"] + parts["extra"]["image"]))
    assert numbers.train_labels.tolist() == [2, 3, 1, 3] and numbers.test_labels.tolist() == [0, 3]
    other = load_data(DataConfig(dataset=config.dataset, train_splits=("test",), test_split="extra"))
    assert other.train_labels.tolist() == [0, 2] and other.test_labels.tolist() == [1, 2]
    assert other.class_names == ("0", "1", "3")


def test_validation_is_the_test_split_where_there_is_none(tmp_path):
    parts = {name: {"image": gray(2, seed), "label": [0, 1]} for seed, name in enumerate(["train", "validation"])}
    found = load_data(DataConfig(dataset=make(tmp_path / "numbers", parts)))
    assert np.array_equal(found.test_images[:, 0], np.stack(parts["validation"]["image"]))


def test_rows_are_held_out_by_class_where_there_is_no_test_split(tmp_path):
    pixels, labels = gray(30), [0] * 20 + [1] * 10
    path = make(tmp_path / "one", {"train": {"image": pixels, "label": labels}})
    one = load_data(DataConfig(dataset=path))
    assert one.test_labels.tolist() == [0] * 4 + [1] * 2 and one.train_labels.tolist() == [0] * 16 + [1] * 8
    where = {x.tobytes(): row for row, x in enumerate(pixels)}
    train = [where[x.numpy().tobytes()] for x in one.train_images]
    test = [where[x.numpy().tobytes()] for x in one.test_images]
    assert sorted(train + test) == list(range(30)) and train == sorted(train) and test == sorted(test)
    assert [labels[row] for row in train + test] == torch.cat([one.train_labels, one.test_labels]).tolist()
    other = load_data(DataConfig(dataset=path, split_seed=1))
    assert not torch.equal(other.test_images, one.test_images)


# Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train, test, names, expected",
    [
        ([7, -3, 7], [40], ("-3", "7", "40"), ([1, 0, 1], [2])),
        (["b", "a", "b"], ["c"], ("a", "b", "c"), ([1, 0, 1], [2])),
        ([True, False, True], [False], ("no", "yes"), ([1, 0, 1], [0])),
        ([1, -1, 1], [1], ("no", "yes"), ([1, 0, 1], [1])),
    ],
)
def test_kinds_of_labels(tmp_path, train, test, names, expected):
    parts = {"train": {"image": gray(3), "Target": train}, "test": {"image": gray(1), "Target": test}}
    found = load_data(DataConfig(dataset=make(tmp_path / "kinds", parts)))
    assert (found.class_names, found.train_labels.tolist(), found.test_labels.tolist()) == (names, *expected)


def test_the_product_of_two_columns(tmp_path):
    male, smiling = [True, True, False, False, True], [1, -1, 1, -1, 1]
    columns = {"image": gray(5), "identity": list(range(5)), "Male": male, "Smiling": smiling}
    path = make(tmp_path / "faces", {"train": columns, "test": columns})
    faces = load_data(DataConfig(dataset=path, label_columns=("Male", "Smiling")))
    assert faces.class_names == ("Male=no, Smiling=no", "Male=no, Smiling=yes",
                                 "Male=yes, Smiling=no", "Male=yes, Smiling=yes")  # fmt: skip
    assert faces.train_labels.tolist() == [3, 2, 1, 0, 3]
    with pytest.raises(DataError, match="labels.*'image', 'identity', 'Male', 'Smiling'"):
        load_data(DataConfig(dataset=path))


def test_a_named_label_goes_before_other_classes(tmp_path):
    columns = {"coarse": [0, 0], "image": gray(2), "label": [1, 0]}
    path = make(tmp_path / "two", {"train": columns, "test": columns}, datasets.ClassLabel(names=["x", "y"]))
    assert load_data(DataConfig(dataset=path)).train_labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "label, values, count",
    [
        (datasets.ClassLabel(names=["a", "b"]), [-1, -1], 2),
        (datasets.ClassLabel(names=["a", "b"]), [-1, 1], 1),
        (None, [None, 1], 1),
        (None, [-1, -1], 2),
    ],
)
def test_missing_labels(tmp_path, label, values, count):
    parts = {"train": {"image": gray(2), "label": [0, 1]}, "test": {"image": gray(2), "label": values}}
    path = make(tmp_path / "missing", parts, label)
    with pytest.raises(DataError, match=f"'test' has no label in column 'label' for {count} of its 2 rows.*row 0"):
        load_data(DataConfig(dataset=path))


# The cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    columns = {"image": gray(40, 5), "label": [0, 1] * 20}
    return make(tmp_path / "small", {"train": columns, "test": columns})


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
        patch.setattr(data_module, "decode_images", None)
        assert same(load_data(DataConfig(dataset="someone/things", subset="small")), first)
    served = datasets.DatasetDict(train=table(2), test=table(1))
    newer = load_data(DataConfig(dataset="someone/things", subset="small"))
    assert np.array_equal(newer.train_images[:, 0], np.stack(gray(4, 2)))


# Errors ----------------------------------------------------------------------------------------------------------


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
