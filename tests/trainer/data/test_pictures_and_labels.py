"""Pictures and labels as they come out of data sets made on the spot."""

import datasets
import numpy as np
import pytest
import torch
from made import encoded, gray, make, random_pixels
from PIL import Image

from segma_fast.trainer.data import DataConfig, DataError, load_data


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
    assert sorted(one.test_labels.tolist()) == [0] * 4 + [1] * 2 and one.train_labels.tolist() == [0] * 16 + [1] * 8
    where = {x.tobytes(): row for row, x in enumerate(pixels)}
    train = [where[x.numpy().tobytes()] for x in one.train_images]
    test = [where[x.numpy().tobytes()] for x in one.test_images]
    assert sorted(train + test) == list(range(30)) and train == sorted(train)
    assert test != sorted(test)  # the first few are of several classes
    assert [labels[row] for row in train + test] == torch.cat([one.train_labels, one.test_labels]).tolist()
    other = load_data(DataConfig(dataset=path, split_seed=1))
    assert not torch.equal(other.test_images, one.test_images)


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
    with pytest.raises(DataError, match="the label: .*'image', 'identity', 'Male', 'Smiling'"):
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


def test_validation_rows_take_the_place_of_the_test_rows(tmp_path):
    train, test = gray(50, 1), gray(7, 2)
    label = datasets.ClassLabel(names=["cat", "dog"])
    path = make(tmp_path / "pets", {"train": {"image": train, "label": [i % 2 for i in range(50)]},
                                    "test": {"image": test, "label": [0] * 7}}, label)  # fmt: skip
    whole, some = (load_data(DataConfig(dataset=path, validation=n)) for n in (0, 12))
    assert len(whole.test_labels) == 7 and (len(some.train_labels), len(some.test_labels)) == (38, 12)
    both = sorted(image.numpy().tobytes() for image in [*some.train_images, *some.test_images])
    assert both == sorted(image.numpy().tobytes() for image in whole.train_images)
    again, other = (load_data(DataConfig(dataset=path, validation=12, split_seed=seed)) for seed in (0, 1))
    assert torch.equal(again.test_images, some.test_images) and not torch.equal(other.test_images, some.test_images)
    with pytest.raises(DataError, match="validation must be less than the 50 training rows, got 50"):
        load_data(DataConfig(dataset=path, validation=50))
    with pytest.raises(DataError, match="validation must be >= 0, got -1"):
        DataConfig(validation=-1)
    assert len(load_data(DataConfig(validation=100)).test_labels) == 100  # of the digits
