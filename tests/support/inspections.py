"""What a model was found to be, with layers that a test writes down."""

from __future__ import annotations

from collections.abc import Iterable

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.inspection import LayerInspection, ModelInspection
from modelpress.spec.network import NetworkSummary


def inspection_of(layers: Iterable[LayerInspection]) -> ModelInspection:
    """A model of ten classes for images of 3 x 32 x 32."""
    return ModelInspection(
        network=NetworkSummary(
            architecture=ArchitectureRef(architecture="vgg11_bn_cifar"), input_shape=(3, 32, 32), preprocessing=None
        ),
        format="safetensors",
        parameters=1000,
        macs=5000,
        num_classes=10,
        fp32_bytes=4000,
        layers=tuple(layers),
    )
