from __future__ import annotations

import pytest
import torch

from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.mixed_labels import class_shares, labelled_share, leading_labels

# Each is mixed with the one before it, the first with the last.
LABELS = torch.tensor([0, 2, UNLABELLED, UNLABELLED, 2, 2])
SHARES = torch.tensor([0.75, 0.25, 0.75, 0.5, 0.25, 0.25])
MIXED = [[0.75, 0, 0.25], [0.75, 0, 0.25], [0, 0, 0.25], [0, 0, 0], [0, 0, 0.25], [0, 0, 1]]


def test_shares_by_hand():
    found = class_shares(LABELS, SHARES, 3)
    assert found.dtype == torch.float32
    assert found.tolist() == MIXED


def test_the_larger_part_leads():
    found = leading_labels(torch.tensor(MIXED))
    assert found.tolist() == [0, 0, UNLABELLED, UNLABELLED, UNLABELLED, 2]
    assert leading_labels(LABELS) is LABELS


def test_parts_of_images_that_have_a_label():
    assert float(labelled_share(LABELS)) == 4
    assert float(labelled_share(torch.tensor(MIXED))) == pytest.approx(1 + 1 + 0.25 + 0 + 0.25 + 1)
