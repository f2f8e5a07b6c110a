"""What an uploaded data set is."""

from __future__ import annotations

from pathlib import Path

from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.registry import READERS, dataset_format
from modelpress.engine.data.statistics import pixel_statistics
from modelpress.spec.inspection import DatasetInspection


def inspect_dataset(path: Path) -> DatasetInspection:
    """Read a data set's file wholly and say what is in it. Raises InvalidDataset."""
    form = dataset_format(path)
    content = READERS[form](path, None)
    _, height, width, channels = content.train.images.shape
    return DatasetInspection(
        format=form,
        layout=content.layout,
        classes=content.classes,
        train_examples=len(content.train.labels),
        unlabelled_examples=int((content.train.labels == UNLABELLED).sum()),
        heldout_examples=None if content.heldout is None else len(content.heldout.labels),
        unused_examples=content.unused,
        image_shape=(channels, height, width),
        smallest_size=None if content.sizes is None else content.sizes.smallest,
        largest_size=None if content.sizes is None else content.sizes.largest,
        statistics=pixel_statistics(content.train.images),
    )
