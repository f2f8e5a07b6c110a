"""Does a step `quantize` fit a model?"""

from __future__ import annotations

from modelpress.spec.check.layers import select_layers
from modelpress.spec.check.misfit import Misfit, listed
from modelpress.spec.inspection import LayerInspection
from modelpress.spec.name_pattern import Names
from modelpress.spec.steps import Quantize


def quantize_misfits(step: Quantize, layers: list[LayerInspection], where: str) -> list[Misfit]:
    """What keeps the step from the model's layers."""
    names = [layer.name for layer in layers]
    try:
        chosen = select_layers({layer.name: layer.type for layer in layers}, step.layers)
    except ValueError as error:
        return [Misfit(where=f"{where}.layers", message=str(error))]
    try:
        quantize_bits(step, names, chosen)
    except ValueError as error:
        return [Misfit(where=f"{where}.bits_per_layer", message=str(error))]
    return []


def quantize_bits(step: Quantize, names: list[str], chosen: list[str]) -> dict[str, int]:
    """Bits of each chosen layer.

    `names` are all layers with weights in the network's order, which says what is first and last. Raises ValueError
    when a pattern of `bits_per_layer` matches none of the chosen.
    """
    those = Names(chosen)
    own: dict[str, int] = {}
    for pattern, value in step.bits_per_layer.items():
        matching = those.matching(pattern)
        if not matching:
            raise ValueError(f"no layer to quantize matches {pattern!r}; these are: {listed(chosen)}")
        for name in matching:
            own.setdefault(name, value)
    bits = dict.fromkeys(chosen, step.bits)
    if step.first_and_last_bits is not None:
        bits |= {name: step.first_and_last_bits for name in (names[0], names[-1]) if name in bits}
    return bits | own
