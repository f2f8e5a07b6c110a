"""Archives of image files, in class folders or without labels."""

from __future__ import annotations

import numpy as np

from modelpress.engine.data.archive import Archive
from modelpress.engine.data.decode import decode_images
from modelpress.engine.data.fit import Fit
from modelpress.engine.data.folders import arrange
from modelpress.engine.data.labelled import DatasetContent, LabelledImages
from modelpress.engine.data.limits import MAX_IMAGE_FILE_BYTES
from modelpress.spec.failure import InvalidDataset


def read_image_folders(archive: Archive, fit: Fit | None = None) -> DatasetContent:
    """Read the images that `arrange` finds, brought to what `fit` says. Raises InvalidDataset."""
    entries = archive.entries
    layout = arrange(entries)
    for image in layout.images:
        if entries[image.place].size > MAX_IMAGE_FILE_BYTES:
            raise InvalidDataset(
                f"{image.name} has {entries[image.place].size} bytes, the limit is {MAX_IMAGE_FILE_BYTES}; "
                "images are small pictures"
            )
    names, places = [image.name for image in layout.images], [image.place for image in layout.images]
    decoded = decode_images(names, places, archive.read, fit)
    labels = np.array([image.label for image in layout.images], dtype=np.int64)
    heldout = np.array([image.heldout for image in layout.images], dtype=bool)
    whole = LabelledImages(decoded.pixels, labels)
    return DatasetContent.parted(
        "image_folders", layout.classes, whole, heldout, unused=layout.unused, sizes=decoded.sizes
    )
