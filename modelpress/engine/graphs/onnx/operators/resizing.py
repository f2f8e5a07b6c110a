"""Images in other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument

_CENTRES = ("half_pixel", "pytorch_half_pixel")


def resize(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    mode, coordinates = given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel")
    rank, axes = len(on.shape(node.input[0])), list(given.get("axes", ())) or None
    if rank != 4 or given.get("antialias", 0) or given.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Untranslatable("it resizes in other than two dimensions, keeps proportions, or smooths")
    scaled, sized = optional(node, 2), optional(node, 3)
    factors: tuple[float, ...] | None = None
    size: Argument = None
    if sized is not None:
        size = _of_images(on.sizes(sized) or (), axes)
    elif scaled is not None:
        factors = tuple(float(scale) for scale in _of_images(tuple(on.numbers(scaled)), axes))
    corners = coordinates == "align_corners"
    value = on.tensor(node.input[0])
    if mode == "nearest" and _from_below(given, coordinates, factors):
        on.gives(node.output[0], on.call("upsample_nearest2d.vec", value, size, factors))
    elif mode == "linear" and (corners or coordinates in _CENTRES):
        on.gives(node.output[0], on.call("upsample_bilinear2d.vec", value, size, corners, factors))
    elif mode == "cubic" and _as_torch(given) and (corners or coordinates in _CENTRES):
        on.gives(node.output[0], on.call("upsample_bicubic2d.vec", value, size, corners, factors))
    else:
        more = "" if _as_torch(given) else ", and by another cubic curve than torch's"
        raise Untranslatable(f"it resizes in mode {mode[:20]} with {coordinates[:30]} coordinates{more}")


def _of_images(numbers: Sequence[Any], axes: list[int] | None) -> tuple[Any, Any]:
    """Those of height and width, of one number for each dimension or for each of `axes`."""
    found = dict(zip(axes or range(4), numbers, strict=True))
    if not {2, 3} <= found.keys():
        raise Untranslatable("it resizes other dimensions than height and width")
    return found[2], found[3]


def _as_torch(given: Attributes) -> bool:
    """Whether a cubic curve is that of Keys (1981) with a = -3/4, pixels beyond the border taken from it."""
    return math.isclose(given.get("cubic_coeff_a", -0.75), -0.75) and not given.get("exclude_outside", 0)


def _from_below(given: Attributes, coordinates: str, factors: tuple[float, ...] | None) -> bool:
    """Whether each new pixel is the old one whose place is next to its own place, divided by the factor, from below."""
    if coordinates == "asymmetric" and given.get("nearest_mode", "round_prefer_floor") == "floor":
        return True
    # So it is between centres for whole factors too: x / factor, rounded down, is nearest to (x + 1/2) / factor - 1/2.
    rounds = given.get("nearest_mode", "round_prefer_floor").startswith("round_prefer")
    whole = factors is not None and all(factor.is_integer() and factor >= 1 for factor in factors)
    return coordinates in _CENTRES and rounds and whole
