"""Labels as a file has them, numbers or names, as indices into the classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.limits import MAX_CLASS_NAME_BYTES, MAX_CLASSES
from modelpress.spec.failure import InvalidDataset


def number_labels(
    found: Sequence[int | str | None], samples: Sequence[str], known: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Classes, and the label (N,) of each sample: UNLABELLED where `found` has None, or -1 as Hugging Face writes it.

    Numbers count from 0 up to the largest, or index the names `known`; names are the classes in alphabetical order,
    unless they are `known`. No classes where nothing has a label. Raises InvalidDataset, naming the sample.
    """
    present = [(label, sample) for label, sample in zip(found, samples, strict=True) if label not in (None, UNLABELLED)]
    if not present:
        return (), np.full(len(found), UNLABELLED, dtype=np.int64)
    is_text = isinstance(present[0][0], str)
    other = next((sample for label, sample in present if isinstance(label, str) is not is_text), None)
    if other is not None:
        raise InvalidDataset(
            f"{present[0][1]} has a {_kind(is_text)} as its label, {other} a {_kind(not is_text)}; use one of them"
        )
    if is_text:
        classes = known or tuple(sorted({str(label) for label, _ in present}))
        check_classes(classes)
        place = {name: index for index, name in enumerate(classes)}
        numbers = [UNLABELLED if label in (None, UNLABELLED) else place.get(str(label), -2) for label in found]
    else:
        most = max(int(label) for label, _ in present if label is not None)
        classes = known or counted_classes(most)
        check_classes(classes)
        numbers = [UNLABELLED if label is None else int(label) for label in found]
    wrong = next((index for index, number in enumerate(numbers) if not UNLABELLED <= number < len(classes)), None)
    if wrong is not None:
        raise InvalidDataset(
            f"{samples[wrong]} has the label {found[wrong]!r}, which is none of the {len(classes)} classes; labels are "
            "names of classes, or count from 0"
        )
    if len(classes) < 2:
        raise InvalidDataset(f"there is one class only, {classes[0]!r}; a data set needs at least two")
    if len(set(classes)) != len(classes):
        raise InvalidDataset("two classes have the same name; give each its own")
    return classes, np.array(numbers, dtype=np.int64)


def counted_classes(largest: int) -> tuple[str, ...]:
    """The classes of labels that are numbers up to `largest`, by their numbers. Raises InvalidDataset."""
    if largest >= MAX_CLASSES:
        raise InvalidDataset(f"the largest label is {largest}, the limit is {MAX_CLASSES - 1}; count them from 0")
    return tuple(str(label) for label in range(largest + 1))


def check_classes(classes: Iterable[str]) -> None:
    """Raise InvalidDataset when there are too many classes, or their names are too long to be shown together."""
    size = 0
    for count, name in enumerate(classes, start=1):
        if count > MAX_CLASSES:
            raise InvalidDataset(f"there are more than {MAX_CLASSES} classes; use fewer")
        size += len(json.dumps(name))
        if size > MAX_CLASS_NAME_BYTES:
            raise InvalidDataset(
                f"the names of the classes come to more than {MAX_CLASS_NAME_BYTES >> 20} MiB together, such as "
                f"{name[:80]!r}; use shorter names, or fewer classes"
            )


def check_heldout(labels: NDArray[np.int64], heldout: NDArray[np.bool_], samples: Sequence[str]) -> None:
    """Raise InvalidDataset when a held-out sample has no label: there would be nothing to measure it against."""
    wrong = np.flatnonzero(heldout & (labels == UNLABELLED))
    if len(wrong) and (labels != UNLABELLED).any():
        raise InvalidDataset(f"{samples[wrong[0]]} is held out and has no label; label it, or move it to `train`")


def _kind(is_text: bool) -> str:
    return "name" if is_text else "number"
