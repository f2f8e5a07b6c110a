"""What keeps a step `quantize` from a model, and the bits of each layer."""

from __future__ import annotations

from typing import Any

import pytest

from modelpress.spec.check.quantize import quantize_bits, quantize_misfits
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.steps import Quantize

NAMES = ["features.0", "features.3", "features.7", "classifier.1", "classifier.4"]


def _misfits(**step: Any) -> list[tuple[str, str]]:
    layers = [
        LayerInspection(
            name=name, type="Linear", weight_shape=(8, 4), parameters=40, prunable=True, full_rank=None, untreated="no"
        )
        for name in NAMES
    ]
    found = quantize_misfits(Quantize.model_validate(step), layers, "steps.2")
    return [(misfit.where, misfit.message) for misfit in found]


def test_what_fits_has_no_misfit() -> None:
    assert _misfits() == []
    assert _misfits(bits_per_layer={"classifier.*": 4}, layers={"exclude": ["features.0"]}) == []


def test_layers_that_are_not_there() -> None:
    ((where, message),) = _misfits(layers={"include": ["head"]})
    assert where == "steps.2.layers"
    assert message == f"no layer matches 'head'; the layers are {', '.join(NAMES)}"


@pytest.mark.parametrize(
    "step", [{"bits_per_layer": {"head": 4}}, {"bits_per_layer": {"head": 4}, "layers": {"include": ["features.*"]}}]
)
def test_bits_for_a_layer_that_is_not_there(step: dict[str, Any]) -> None:
    ((where, message),) = _misfits(**step)
    assert where == "steps.2.bits_per_layer"
    assert message.startswith("no layer to quantize matches 'head'; these are: features.0, ")


def test_bits_for_a_layer_that_is_not_chosen() -> None:
    ((where, _),) = _misfits(bits_per_layer={"classifier.1": 4}, layers={"include": ["features.*"]})
    assert where == "steps.2.bits_per_layer"


def test_a_layer_s_own_bits_go_before_those_of_the_ends_and_these_before_the_rest() -> None:
    step = Quantize(bits=3, first_and_last_bits=8, bits_per_layer={"classifier.4": 5, "classifier.*": 6})
    assert quantize_bits(step, NAMES, NAMES) == dict(zip(NAMES, (8, 3, 3, 6, 5), strict=True))
    step = Quantize(bits=3, bits_per_layer={r"re:features\.[03]": 2})
    assert quantize_bits(step, NAMES, NAMES) == dict(zip(NAMES, (2, 2, 3, 3, 3), strict=True))
    # The ends are the network's, not those of what was chosen.
    step = Quantize(bits=3, first_and_last_bits=8)
    assert quantize_bits(step, NAMES, NAMES[1:4]) == dict.fromkeys(NAMES[1:4], 3)


@pytest.mark.parametrize("bits", [1, 9, 2.5])
def test_bits_out_of_bounds(bits: float) -> None:
    for step in ({"bits": bits}, {"first_and_last_bits": bits}, {"bits_per_layer": {"*": bits}}):
        with pytest.raises(ValueError, match=r"greater than or equal to 2|less than or equal to 8|valid integer"):
            Quantize.model_validate(step)
