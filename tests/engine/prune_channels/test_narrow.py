"""Edits from files that others wrote."""

from __future__ import annotations

import pytest

from modelpress.engine.network import rebuild
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NarrowedLayer, NarrowedLayers, NetworkDescription
from tests.support.networks import describe


def described(*layers: tuple[str, int, int], architecture: str = "vgg11_bn_cifar") -> NetworkDescription:
    edit = NarrowedLayers(layers=tuple(NarrowedLayer(layer=name, inputs=i, outputs=o) for name, i, o in layers))
    return describe(architecture).model_copy(update={"edits": (edit,)})


def test_sizes_that_fit_are_taken() -> None:
    module = rebuild(described(("features.0", 3, 10), ("features.1", 10, 10), ("features.4", 10, 128)))
    assert module.get_parameter("features.0.weight").shape == (10, 3, 3, 3)
    assert module.get_buffer("features.1.running_var").shape == (10,)
    assert module.get_parameter("features.4.weight").shape == (128, 10, 3, 3)
    assert all(layer.training for layer in module.modules())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([("nowhere", 1, 1)], "has no layer 'nowhere'"),
        ([("", 1, 1)], "cannot be narrowed"),
        ([("features.2", 1, 1)], "a ReLU, cannot be narrowed"),
        ([("features.0", 3, 65)], "3 inputs and 64 outputs; it cannot be narrowed to 3 and 65"),
        ([("features.0", 3, 10**12)], "cannot be narrowed to"),
        ([("features.1", 10, 11)], "as many inputs as outputs"),
        ([("features.0", 3, 10), ("features.0", 3, 9)], "twice"),
        ([("features.0", 3, 10)], "do not fit each other"),
        ([("features.0", 3, 10), ("features.1", 11, 11), ("features.4", 10, 128)], "do not fit each other"),
        ([("features.0", 2, 64)], "do not fit each other"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(layers: list[tuple[str, int, int]], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        rebuild(described(*layers))


def test_grouped_convolutions_are_refused() -> None:
    with pytest.raises(InvalidModel, match="cannot be narrowed"):
        rebuild(described(("layer1.0.conv2", 64, 64), architecture="resnext50_32x4d"))
