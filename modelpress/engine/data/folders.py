"""Class folders: which file of an archive is an image of which class, told from the names alone.

cat/1.png  dog/2.png                          all of it to train with; a part is drawn to be held out
train/cat/1.png  test/cat/2.png  ...          the held-out part is given: test or heldout, else val, valid or validation
anything/cat/1.png  anything/dog/2.png  ...   a folder around either of them does no harm
unlabelled/3.png  train/unlabelled/4.png      images to train with that have no label; beside either of them
1.png  2.png  or  photos/1.png  photos/2.png  no class folders, or a single one: no image has a label
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from modelpress.engine.data.archive import Entry
from modelpress.engine.data.class_labels import check_classes
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.limits import MAX_IMAGES
from modelpress.spec.failure import InvalidDataset

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
TRAIN = ("train", "training")
_TEST = ("test", "heldout")
_VALIDATION = ("val", "valid", "validation")
PARTS = frozenset({*TRAIN, *_TEST, *_VALIDATION})
_UNLABELLED = "unlabelled"
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


_File = tuple[tuple[str, ...], int]  # the parts of its path, and its place in the archive


@dataclass(frozen=True)
class ImageEntry:
    """One image of an archive."""

    name: str
    place: int  # index among the archive's members
    label: int  # UNLABELLED where there is none
    heldout: bool


@dataclass(frozen=True)
class Layout:
    """What an archive's names say."""

    classes: tuple[str, ...]  # sorted by name; none where no image has a label
    images: tuple[ImageEntry, ...]  # by part, class and name: the same order however the archive was packed
    unused: int = 0  # images of a validation part beside a test part


def arrange(entries: Sequence[Entry]) -> Layout:
    """Tell images, classes and parts from the names of an archive's members.

    Raises InvalidDataset when there are no images, a single class in two parts, a class without images, classes that
    differ between the parts, or files that are neither in a class folder nor known to be no images.
    """
    files: list[_File] = []
    folders: list[tuple[str, ...]] = []
    for place, entry in enumerate(entries):
        parts = _parts(entry.name)
        if not parts or is_junk(parts):
            continue
        if entry.folder:
            folders.append(parts)
        else:
            files.append((parts, place))
    images = [(parts, place) for parts, place in files if _is_image(parts)]
    if not images:
        raise InvalidDataset(
            f"there is no image in the archive; pack one folder per class with files of type "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    if len(images) > MAX_IMAGES:
        raise InvalidDataset(f"there are {len(images)} images, the limit is {MAX_IMAGES}; use fewer")

    around = _wrapping_folders([parts for parts, _ in images])
    wrapper = images[0][0][:around]
    # A note beside what holds everything is no part of the data set, nor is an empty folder there. What lies as deep as
    # images do is: a part whose images are of no known type, say.
    files = [(parts, place) for parts, place in files if len(parts) > around]
    folders = [parts for parts in folders if parts[:around] == wrapper]
    images = [(parts[around:], place) for parts, place in images]
    unlabelled = [(parts, place) for parts, place in images if _is_unlabelled(parts)]
    images = [(parts, place) for parts, place in images if not _is_unlabelled(parts)]
    tops = {parts[0].lower(): entries[place].name for parts, place in images if len(parts) > 1}
    # Classes may have the names of parts, beside others, and then hold images rather than folders of them.
    are_classes = not tops.keys() <= PARTS and all(len(parts) <= 2 for parts, _ in images if parts[0].lower() in PARTS)
    heldout_names = () if are_classes else heldout_part(tops)
    depth = 1 if heldout_names else 0  # where the class's name stands in a path
    _check_others([(parts[around:], place) for parts, place in files], depth, entries)
    if all(len(parts) == 1 for parts, _ in images):
        return _without_labels(images + unlabelled, entries)
    for parts, place in images:
        if len(parts) < depth + 2:
            raise InvalidDataset(
                f"{entries[place].name} lies outside the class folders; move it into one, or remove it"
            )
    parted = len(images)
    if heldout_names:
        images = [(parts, place) for parts, place in images if parts[0].lower() in (*TRAIN, *heldout_names)]

    found = [
        (bool(heldout_names) and parts[0].lower() in heldout_names, parts[depth], "/".join(parts), place)
        for parts, place in images
    ]
    train = {name for heldout, name, _, _ in found if not heldout}
    heldout = {name for is_heldout, name, _, _ in found if is_heldout}
    named = {parts[around:][depth] for parts in folders if len(parts) == around + depth + 1} - {_UNLABELLED}
    empty = sorted(named - train - heldout)
    if empty:
        raise InvalidDataset(f"class {empty[0]!r} has no images; add some, or remove its folder")
    if heldout_names and train != heldout:
        name = min(train ^ heldout)
        where = "the held-out part" if name in train else "the training part"
        raise InvalidDataset(f"class {name!r} is missing in {where}; both parts must have the same class folders")
    classes = tuple(sorted(train))
    check_classes(classes)
    if len(classes) < 2 and (heldout_names or unlabelled):
        raise InvalidDataset(f"there is one class only, {classes[0]!r}; a data set needs at least two class folders")
    if len(classes) < 2:
        return _without_labels(images, entries)
    label_of = {name: label for label, name in enumerate(classes)}
    return Layout(
        classes=classes,
        images=tuple(
            ImageEntry(entries[place].name, place, label_of[name], is_heldout)
            for is_heldout, name, _, place in sorted(found)
        )
        + _without_labels(unlabelled, entries).images,
        unused=parted - len(images),
    )


def _without_labels(images: list[_File], entries: Sequence[Entry]) -> Layout:
    found = tuple(ImageEntry(entries[place].name, place, UNLABELLED, False) for _, place in sorted(images))
    return Layout(classes=(), images=found)


def heldout_part(found: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the folders whose images are held out, of those `found` at the top, each with a file that lies there;
    none where they are not the parts of a set.

    A validation part is held out where there is no test part. Where there is one, the validation images belong to
    neither part: the figures are to be of images that nothing was trained or chosen by. Raises InvalidDataset where
    there is something else beside the parts: to train on all of it would be to train on what is held out.
    """
    tops = found.keys() & PARTS
    if not (tops & {*TRAIN} and tops - {*TRAIN}):
        return ()
    if tops != found.keys():
        beside = found[min(found.keys() - tops)]
        raise InvalidDataset(
            f"{beside} lies beside the parts {', '.join(map(repr, sorted(tops)))} and in none of them; move it into "
            "one, or remove it"
        )
    for names in (TRAIN, _TEST, _VALIDATION):
        present = sorted(tops & set(names))
        if len(present) > 1:
            raise InvalidDataset(f"folders {' and '.join(map(repr, present))} name the same part; keep one of them")
    return _TEST if tops & {*_TEST} else _VALIDATION


def _check_others(files: list[_File], depth: int, entries: Sequence[Entry]) -> None:
    """Refuse what lies among the images of a class and is none: left out in silence, it would be missed."""
    for parts, place in files:
        if not _is_image(parts) and (_is_unlabelled(parts) or len(parts) >= depth + 2):
            raise InvalidDataset(
                f"{entries[place].name} is no image of a known type ({', '.join(IMAGE_SUFFIXES)}); convert or remove it"
            )


def _is_image(parts: tuple[str, ...]) -> bool:
    return parts[-1].lower().endswith(IMAGE_SUFFIXES)


def _parts(name: str) -> tuple[str, ...]:
    # Some Windows programs write backslashes into zips, against the format's rules.
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", ".."))


def is_junk(parts: tuple[str, ...]) -> bool:
    """Is a file of this path one that operating systems leave behind?"""
    return any(part in _JUNK or part.startswith(".") for part in parts)


def _is_unlabelled(parts: tuple[str, ...]) -> bool:
    """Does an image lie in the folder `unlabelled`, at the top or in the training part?"""
    folders = [part.lower() for part in parts[:-1]]
    return folders[:1] == [_UNLABELLED] or (folders[:1] in ([TRAIN[0]], [TRAIN[1]]) and folders[1:2] == [_UNLABELLED])


def _wrapping_folders(paths: list[tuple[str, ...]]) -> int:
    """How many leading folders hold everything and are still not the class folder itself."""
    around = 0
    while all(len(parts) > around + 2 for parts in paths) and len({parts[around] for parts in paths}) == 1:
        around += 1
    return around
