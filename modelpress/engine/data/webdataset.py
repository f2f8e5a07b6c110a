"""WebDataset tars (https://github.com/webdataset/webdataset): members of one name and several endings are one sample.

000000.jpg  000000.cls                  the label as a number, counted from 0
000001.png  000001.json                 a dictionary with the label under `label`, `cls`, `class` or `class_name`
000002.jpg                              beside such samples: without a label
train/000000.jpg  test/000000.jpg ...   the held-out part is given, as for class folders

A name ends at its first dot: a/b.c.jpg is the sample a/b with the ending c.jpg. Labels are all numbers, or all names,
which are then counted in alphabetical order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from modelpress.engine.data.archive import Archive, Entry
from modelpress.engine.data.class_labels import check_heldout, number_labels
from modelpress.engine.data.decode import decode_images
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.folders import IMAGE_SUFFIXES, TRAIN, heldout_part, is_junk
from modelpress.engine.data.labelled import DatasetContent, LabelledImages
from modelpress.engine.data.limits import MAX_IMAGE_FILE_BYTES, MAX_IMAGES
from modelpress.spec.failure import InvalidDataset

_LABEL_ENDINGS = ("cls", "json")
_LABEL_KEYS = ("label", "cls", "class", "class_name")
_MAX_LABEL_BYTES = 2**20


@dataclass
class Sample:
    """The members of one sample, by their places in the archive."""

    image: int
    labels: dict[str, int] = field(default_factory=dict)  # by ending


def find_samples(entries: Sequence[Entry]) -> dict[str, Sample] | None:
    """Samples by name, in the archive's order; None where no image has a file with its label beside it.

    Raises InvalidDataset when a sample has two images.
    """
    labels: dict[str, dict[str, int]] = {}
    images: dict[str, list[int]] = {}
    for place, entry in enumerate(entries):
        if is_junk(PurePosixPath(entry.name).parts):
            continue
        name, ending = _split(entry.name)
        if not entry.folder and ending in _LABEL_ENDINGS:
            labels.setdefault(name, {})[ending] = place
        elif not entry.folder and f".{ending.rpartition('.')[2]}" in IMAGE_SUFFIXES:
            images.setdefault(name, []).append(place)
    if not images.keys() & labels.keys():
        return None
    for name, places in images.items():
        if len(places) > 1:
            raise InvalidDataset(f"the sample {name} has {len(places)} images; keep one of them")
    return {name: Sample(places[0], labels.get(name, {})) for name, places in images.items()}


def read_webdataset(archive: Archive, samples: dict[str, Sample], fit: Fit | None = None) -> DatasetContent:
    """Read the images of samples and their labels, brought to what `fit` says. Raises InvalidDataset."""
    if len(samples) > MAX_IMAGES:
        raise InvalidDataset(f"there are {len(samples)} images, the limit is {MAX_IMAGES}; use fewer")
    tops = _parts(samples)
    heldout_names = heldout_part({top: name for name, top in tops.items()})
    names = [name for name in samples if not heldout_names or tops[name] in (*TRAIN, *heldout_names)]
    heldout = np.array([bool(heldout_names) and tops[name] in heldout_names for name in names], dtype=bool)
    # In the archive's order, as what is packed is read from the front.
    said = {
        name: _label(archive, samples[name].labels)
        for name in sorted(names, key=lambda name: min(samples[name].labels.values(), default=0))
    }
    classes, labels = number_labels([said[name] for name in names], names)
    if not classes:
        raise InvalidDataset(
            f"none of the files beside the images, such as those of {names[0]}, has a label; write it under `label`, "
            "or pack the images alone, in class folders"
        )
    check_heldout(labels, heldout, names)
    places = [samples[name].image for name in names]
    for place in places:
        if archive.entries[place].size > MAX_IMAGE_FILE_BYTES:
            raise InvalidDataset(
                f"{archive.entries[place].name} has {archive.entries[place].size} bytes, the limit is "
                f"{MAX_IMAGE_FILE_BYTES}; images are small pictures"
            )
    decoded = decode_images([archive.entries[place].name for place in places], places, archive.read, fit)
    whole = LabelledImages(decoded.pixels, labels)
    unused = len(samples) - len(names)
    return DatasetContent.parted("webdataset", classes, whole, heldout, unused=unused, sizes=decoded.sizes)


def _parts(names: Iterable[str]) -> dict[str, str]:
    """The folder that may say the part of each sample, by name: the first below those that hold them all."""
    folders = {name: name.split("/")[:-1] for name in names}
    around = 0
    while all(len(above) > around + 1 for above in folders.values()) and (
        len({above[around] for above in folders.values()}) == 1
    ):
        around += 1
    return {name: above[around].lower() if len(above) > around else "" for name, above in folders.items()}


def _split(path: str) -> tuple[str, str]:
    """A member's sample and ending."""
    folder, _, name = path.removeprefix("./").rpartition("/")
    stem, _, ending = name.partition(".")
    return (f"{folder}/{stem}" if folder else stem), ending.lower()


def _label(archive: Archive, places: dict[str, int]) -> int | str | None:
    """A sample's label, of the file `cls` rather than of `json`; None where neither has one."""
    for ending in _LABEL_ENDINGS:
        if ending not in places:
            continue
        entry = archive.entries[places[ending]]
        if entry.size > _MAX_LABEL_BYTES:
            raise InvalidDataset(f"{entry.name} has {entry.size} bytes, a label has a few; remove it")
        content = archive.read(places[ending])
        try:
            label = int(content) if ending == "cls" else _label_of(json.loads(content))
        except (ValueError, RecursionError) as error:
            what = "a number counted from 0" if ending == "cls" else "JSON"
            raise InvalidDataset(f"{entry.name} is not {what}; write the label of its image into it") from error
        if label is not None:
            return label
    return None


def _label_of(content: object) -> int | str | None:
    if isinstance(content, dict):
        for key in _LABEL_KEYS:
            label = content.get(key)
            if isinstance(label, int | str) and not isinstance(label, bool):
                return label
    return None
