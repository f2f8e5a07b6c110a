"""What a node of an ONNX graph says: its attributes, the inputs that it may leave out, and the module it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import helper

from modelpress.engine.graphs.onnx.translation import Translation

Attributes = dict[str, Any]
Converter = Callable[[Translation, onnx.NodeProto, Attributes], None]
"""Says one node in ATen's operators: adds calls to the translation, and what the node's outputs are."""


def attributes(node: onnx.NodeProto) -> Attributes:
    """Attributes of a node by name, text as text."""
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for name, value in found.items()
    }


def optional(node: onnx.NodeProto, index: int) -> str | None:
    """The name of the input at `index`; None where the node leaves it out."""
    return node.input[index] if len(node.input) > index and node.input[index] else None
