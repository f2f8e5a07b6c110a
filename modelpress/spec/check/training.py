"""Does the training of a step fit a data set?"""

from __future__ import annotations

from modelpress.spec.check.misfit import Misfit
from modelpress.spec.inspection import DatasetInspection
from modelpress.spec.training import Training


def training_misfits(training: Training, dataset: DatasetInspection, where: str) -> list[Misfit]:
    """What keeps the training from being done on this data set; `where` is the place of its step."""
    labelled = dataset.train_examples - dataset.unlabelled_examples
    if training.validation == 0 or labelled > 1:
        return []
    message = (
        f"`validation` keeps some of the labelled training images apart, of which the data set has {labelled}: drop "
        "it, with what goes by it, or label more images"
    )
    return [Misfit(where=f"{where}.training.validation", message=message)]
