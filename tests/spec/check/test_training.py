from __future__ import annotations

import pytest

from modelpress.spec.check.training import training_misfits
from modelpress.spec.inspection import DatasetInspection
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Training


def dataset(examples: int, unlabelled: int) -> DatasetInspection:
    return DatasetInspection(
        format="npz",
        classes=("a", "b"),
        train_examples=examples,
        unlabelled_examples=unlabelled,
        heldout_examples=2,
        image_shape=(1, 8, 8),
        statistics=Preprocessing(mean=(0.5,), std=(0.2,)),
    )


@pytest.mark.parametrize(("validation", "unlabelled", "fits"), [(0.1, 9, False), (0.1, 8, True), (0.0, 10, True)])
def test_a_validation_needs_labels(validation: float, unlabelled: int, fits: bool):
    found = training_misfits(Training(validation=validation), dataset(10, unlabelled), "steps.2")
    assert (found == []) == fits
    if not fits:
        assert found[0].where == "steps.2.training.validation"
        assert "of which the data set has 1: drop it" in found[0].message
