"""The two data sets: `tuning` for choices, without any test image, and `final` for the figure at the end.

`tuning` is the training images, less 5,000 drawn evenly by class, with these as its held-out part. `final` is all
training images and the test images. The original has learned the held-out images of `tuning`, so that there only
results are compared with one another, never with the original. Both are written from the two archives of
MODELPRESS_DATA, bytes as they are.
"""

from __future__ import annotations

import random
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from benchmarks.slimnets.budget import Data
from benchmarks.slimnets.scale import Scale
from demo.cifar10 import SPLITS

DRAW_SEED = 20180801


def draw(names: Sequence[str], count: int | None) -> list[str]:
    """So many of the images `<class>/<file>`, as many of each class, the same ones every time; all for None.

    Raises ValueError where a class has too few.
    """
    names = sorted(name for name in names if not name.endswith("/"))
    if count is None:
        return names
    by_class = defaultdict(list)
    for name in names:
        by_class[PurePosixPath(name).parent].append(name)
    each, odd = divmod(count, len(by_class))
    chosen = []
    for place, inside in enumerate(by_class.values()):
        chosen += random.Random(DRAW_SEED).sample(inside, each + (place < odd))  # noqa: S311 - a draw, no secret
    return sorted(chosen)


def write_datasets(source: Path, folder: Path, scale: Scale) -> dict[Data, Path]:
    """The archives `tuning.zip` and `final.zip` in `folder`, as upload_dataset takes them; what is there stays."""
    paths: dict[Data, Path] = {"tuning": folder / "tuning.zip", "final": folder / "final.zip"}
    if all(path.is_file() for path in paths.values()):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source / SPLITS["train"]) as train, zipfile.ZipFile(source / SPLITS["test"]) as test:
        training = draw(train.namelist(), scale.train_images)
        held_out = draw(training, scale.tuning_images)
        rest = sorted(set(training) - set(held_out))
        _write(paths["tuning"], {"train": (train, rest), "test": (train, held_out)})
        _write(paths["final"], {"train": (train, training), "test": (test, draw(test.namelist(), scale.test_images))})
    return paths


def _write(path: Path, splits: Mapping[str, tuple[zipfile.ZipFile, Sequence[str]]]) -> None:
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for split, (source, names) in splits.items():
            for name in names:
                archive.writestr(f"{split}/{name}", source.read(name))
    partial.rename(path)
