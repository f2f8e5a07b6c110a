"""What is said of a batch that does not fit, and which would."""

from __future__ import annotations

import pytest
import torch

from modelpress.engine.batch_size import naming_batch
from modelpress.engine.exhaustion import BatchTooLarge
from modelpress.engine.recovery import recover
from modelpress.spec.cost import fitting_batch
from modelpress.spec.training import Training
from tests.support.contexts import context
from tests.support.hungry import hungry
from tests.support.image_data import noise
from tests.support.tiny import tiny_network

DATA = noise(24)


@pytest.mark.parametrize(("batch", "advice"), [(16, "from 16 to 8, or use"), (1, "not even one image fits")])
def test_a_training_names_the_batch_that_would_fit(batch: int, advice: str):
    network = tiny_network(DATA.statistics, classes=3, norm=False)
    hungry(network.module, 0)
    with pytest.raises(BatchTooLarge, match=advice) as caught:
        recover(network, Training(batch_size=batch, epochs=1), context(network, DATA))
    assert caught.value.of_gpu


def test_memory_of_the_machine_is_told_apart():
    network = tiny_network(DATA.statistics)
    with (
        pytest.raises(BatchTooLarge, match="from 128 to 12") as caught,
        naming_batch(network, Training(), len(DATA.train_labels), context(network, DATA)),
    ):
        torch.empty(2**60, dtype=torch.uint8)
    assert not caught.value.of_gpu


def test_another_error_is_left_alone():
    network = tiny_network(DATA.statistics)
    with pytest.raises(ZeroDivisionError), naming_batch(network, Training(), 100, context(network, DATA)):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("batch", "room", "image", "fitting"),
    [
        (128, 1000, 100, 10),
        (128, 1_000_000, 100, 64),  # those did not fit, whatever is reckoned
        (128, None, 100, 64),
        (128, 1000, 0, 64),
        (128, 99, 100, 0),
        (128, -5, 100, 0),
    ],
)
def test_a_batch_that_fits_is_half_at_most(batch: int, room: int | None, image: int, fitting: int):
    assert fitting_batch(batch, room, image) == fitting
