"""Inspections as documents: those of older versions are read, and what follows from others is said."""

from __future__ import annotations

import json

from modelpress.spec.inspection import ModelInspection
from tests.support.uploads import model_inspection

# Fields that the first version did not write.
_NEW = ("layer_types", "estimates", "input_shape", "output_shape")


def test_the_inspection_of_an_older_version_is_read() -> None:
    document = json.loads(model_inspection().model_dump_json())
    for name in _NEW:
        document.pop(name)
    for layer in document["layers"]:
        layer.pop("macs")
    old = ModelInspection.model_validate(document)
    assert (old.layer_types, old.estimates) == ((), ())
    assert [layer.macs for layer in old.layers] == [None, None]
    assert (old.input_shape, old.output_shape) == ((3, 32, 32), (10,))


def test_shapes_are_in_the_document_and_in_its_schema() -> None:
    found = model_inspection(num_classes=7)
    document = json.loads(found.model_dump_json())
    assert (document["input_shape"], document["output_shape"]) == ([3, 32, 32], [7])
    properties = ModelInspection.model_json_schema(mode="serialization")["properties"]
    assert all(properties[name]["description"] for name in _NEW)
    assert ModelInspection.model_validate(document) == found
