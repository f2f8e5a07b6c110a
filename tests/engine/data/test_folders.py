from __future__ import annotations

import pytest

from modelpress.engine.data.folders import Entry, Layout, arrange
from modelpress.spec.failure import InvalidDataset


def layout(*names: str, folders: tuple[str, ...] = ()) -> Layout:
    return arrange([*(Entry(name, 0, folder=True) for name in folders), *(Entry(name, 1) for name in names)])


def seen(found: Layout) -> list[tuple[str, str, bool]]:
    return [(image.name, found.classes[image.label], image.heldout) for image in found.images]


def test_class_folders():
    assert seen(layout("dog/2.png", "cat/b.JPG", "cat/a.jpeg")) == [
        ("cat/a.jpeg", "cat", False),
        ("cat/b.JPG", "cat", False),
        ("dog/2.png", "dog", False),
    ]


def test_places_point_into_the_archive():
    found = layout("dog/2.png", "cat/1.png", folders=("dog/", "cat/"))
    assert [(image.name, image.place) for image in found.images] == [("cat/1.png", 3), ("dog/2.png", 2)]


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation", "heldout", "Test"])
def test_given_split(name: str):
    found = layout("train/cat/1.png", f"{name}/cat/2.png", "train/dog/1.png", f"{name}/dog/9.png")
    assert found.classes == ("cat", "dog")
    assert {image.name for image in found.images if image.heldout} == {f"{name}/cat/2.png", f"{name}/dog/9.png"}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_beside_a_test_part_is_used_for_nothing(name: str):
    names = tuple(f"{part}/{label}/1.png" for part in ("train", "test", name) for label in ("cat", "dog"))
    found = layout(*names, f"{name}/cat/2.png")
    assert [(image.name, image.heldout) for image in found.images] == [
        ("train/cat/1.png", False),
        ("train/dog/1.png", False),
        ("test/cat/1.png", True),
        ("test/dog/1.png", True),
    ]
    assert found.unused == 3


@pytest.mark.parametrize(
    "names",
    [
        ("1.png", "2.png", "README.txt"),
        ("photos/1.png", "photos/2.png"),
        ("a/photos/1.png", "a/photos/2.png"),
        ("1.png", "unlabelled/2.png"),
        ("train/unlabelled/1.png", "train/unlabelled/2.png"),
    ],
)
def test_without_class_folders_or_in_a_single_one_no_image_has_a_label(names: tuple[str, ...]):
    found = layout(*names)
    assert found.classes == ()
    assert [(image.place, image.label, image.heldout) for image in found.images] == [(0, -1, False), (1, -1, False)]


@pytest.mark.parametrize("around", ["data/", "./data/", "a/b/", "data\\"])
def test_folders_around_do_no_harm(around: str):
    assert layout(f"{around}cat/1.png", f"{around}dog/1.png").classes == ("cat", "dog")
    found = layout(*(f"{around}{part}/{name}/1.png" for part in ("train", "test") for name in ("cat", "dog")))
    assert [image.heldout for image in found.images] == [False, False, True, True]


def test_only_a_training_part_is_all_there_is():
    found = layout("train/cat/1.png", "train/dog/1.png")
    assert found.classes == ("cat", "dog")
    assert not any(image.heldout for image in found.images)


def test_train_can_be_a_class():
    assert layout("car/1.png", "train/1.png", "plane/1.png").classes == ("car", "plane", "train")
    assert layout("car/red/1.png", "train/1.png", "test/1.png").classes == ("car", "test", "train")


def test_images_deeper_in_a_class():
    assert seen(layout("cat/x/1.png", "cat/2.png", "dog/1.png"))[1] == ("cat/x/1.png", "cat", False)


def test_what_operating_systems_leave_behind_is_ignored():
    found = layout(
        "cat/1.png", "dog/1.png", "__MACOSX/cat/._1.png", "cat/.DS_Store", ".git/x.png", "dog/Thumbs.db", "README.txt",
        folders=("__MACOSX/", "cat/.cache/"),
    )  # fmt: skip
    assert [image.name for image in found.images] == ["cat/1.png", "dog/1.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "there is no image"),
        (("cat/notes.txt",), "there is no image"),
        (("train/cat/1.png", "test/cat/2.png"), "one class only, 'cat'"),
        (("cat/1.png", "cat/2.png", "unlabelled/3.png"), "one class only, 'cat'"),
        (("cat/1.png", "dog/1.png", "3.png"), "3.png lies outside the class folders"),
        (("train/1.png", "test/2.png"), "train/1.png lies outside the class folders"),
        (("cat/1.png", "dog/1.png", "dog/2.heic"), "dog/2.heic is no image of a known type"),
        (("train/cat/1.png", "train/dog/1.png", "test/cat/1.png"), "class 'dog' is missing in the held-out part"),
        (
            tuple(f"{part}/{name}/1.png" for part in ("train", "extra", "test") for name in ("cat", "dog")),
            "extra/dog/1.png lies beside the parts 'test', 'train' and in none of them; move it into one, or remove",
        ),
        (("train/cat/1.png", "test/dog/1.png", "test/cat/1.png"), "class 'dog' is missing in the training part"),
        (
            tuple(f"{part}/{name}/1.png" for part in ("train", "valid", "val") for name in ("cat", "dog")),
            "'val' and 'valid' name the same part; keep one",
        ),
        (tuple(f"{label}/1.png" for label in range(65_537)), "more than 65536 classes; use fewer"),
        (tuple(f"{label}{'x' * 60_000}/1.png" for label in range(40)), "come to more than 2 MiB together, such as '"),
    ],
)
def test_what_is_wrong_is_named(names: tuple[str, ...], message: str):
    with pytest.raises(InvalidDataset, match=message):
        layout(*names)


def test_a_class_without_images_is_named():
    with pytest.raises(InvalidDataset, match="class 'fox' has no images"):
        layout("cat/1.png", "dog/1.png", folders=("cat/", "dog/", "fox/"))
    with pytest.raises(InvalidDataset, match="class 'fox' has no images"):
        layout(
            *(f"all/{part}/{name}/1.png" for part in ("train", "test") for name in ("cat", "dog")),
            folders=("all/", "all/train/fox/"),
        )


def test_what_lies_beside_a_folder_around_everything_is_no_part_of_it():
    found = layout("data/cat/1.png", "data/dog/1.png", "README.md", "docs/b.txt", folders=("docs/", "docs/img/"))
    assert seen(found) == [("data/cat/1.png", "cat", False), ("data/dog/1.png", "dog", False)]


def test_a_part_of_another_kind_of_images_is_not_left_out_in_silence():
    with pytest.raises(InvalidDataset, match=r"test/cat/3\.heic is no image of a known type"):
        layout("train/cat/1.png", "train/dog/2.png", "test/cat/3.heic")
