"""Images in other sizes."""

from __future__ import annotations

import onnx

from modelpress.engine.graphs.onnx.node import Attributes, optional
from modelpress.engine.graphs.onnx.translation import Translation, Untranslatable
from modelpress.spec.graph import Argument


def resize(on: Translation, node: onnx.NodeProto, given: Attributes) -> None:
    mode, coordinates = given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel")
    shape = on.shape(node.output[0])[2:]
    scales, sizes = optional(node, 2), optional(node, 3)
    if len(shape) != 2 or None in shape:
        raise Untranslatable("the size that it gives is not known")
    factors: Argument = None
    if sizes is None and scales is not None:
        factors = tuple(float(scale) for scale in on.numbers(scales)[2:])
    size = None if factors is not None else tuple(on.numbers(sizes)[2:]) if sizes is not None else tuple(shape)
    value = on.tensor(node.input[0])
    if mode == "nearest" and coordinates == "asymmetric" and given.get("nearest_mode", "round_prefer_floor") == "floor":
        on.gives(node.output[0], on.call("upsample_nearest2d.vec", value, size, factors))
    elif mode == "linear" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = coordinates == "align_corners"
        on.gives(node.output[0], on.call("upsample_bilinear2d.vec", value, size, corners, factors))
    elif mode == "cubic" and coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = coordinates == "align_corners"
        on.gives(node.output[0], on.call("upsample_bicubic2d.vec", value, size, corners, factors))
    else:
        raise Untranslatable(f"it resizes in mode {mode} with {coordinates} coordinates")
