"""A network in memory: its modules, what they are as data, and what later trainings must keep true of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from modelpress.engine.architectures.budget import Budget, TooLargeError
from modelpress.engine.architectures.registry import build
from modelpress.engine.factorize.cp import insert_cp
from modelpress.engine.factorize.fold import insert_fold
from modelpress.engine.factorize.pair import insert_pair
from modelpress.engine.factorize.tucker import insert_tucker
from modelpress.engine.graphs.network import GraphNetwork
from modelpress.engine.prune_channels.narrow import check_sizes, narrow_layers
from modelpress.engine.quantize.grid import Grid
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Graph
from modelpress.spec.network import NarrowedLayers, NetworkDescription

# How each kind of edit changes a module's structure, in place. The weights of what is new are drawn at random.
EDITS: dict[str, Callable[[nn.Module, Any], None]] = {
    "factorized_layer": insert_pair,
    "tucker_layer": insert_tucker,
    "cp_layer": insert_cp,
    "folded_norm": insert_fold,
    "narrowed_layers": narrow_layers,
}

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)

# Layers within layers. Torch's networks and 32 steps on them stay far below; torch recurses once for each.
MOST_NESTED = 64


@dataclass
class Network:
    """A module and what it is.

    `description` says how the module is built again; `masks` says which weights later trainings must leave at zero:
    name in the state dict (`features.0.weight`) to a bool tensor of the weight's shape, True where it is kept (a
    step `prune` with regrowth may choose other ones, as many). A weight without a mask is free. A network read from a
    file has no masks: its zeros are found in its weights.

    `grids` says by the same names which weights are quantized, and to which values.
    """

    module: nn.Module
    description: NetworkDescription
    masks: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, Grid] = field(default_factory=dict)


def weighted_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Layers whose `weight` is a matrix or a kernel, the ones that steps treat, by name, in `named_modules()` order.

    Subclasses count too (`nn.NonDynamicallyQuantizableLinear` inside attention, say).
    """
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, WEIGHTED)}


def layer_type(layer: nn.Module) -> str:
    """Name of the class among `WEIGHTED` that a layer is or derives from; of any other module, its own class's."""
    return next((kind.__name__ for kind in WEIGHTED if isinstance(layer, kind)), type(layer).__name__)


def layer_types(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """The type of each layer by its name, as selections of layers look at it."""
    return {name: layer_type(layer) for name, layer in layers.items()}


def rebuild(description: NetworkDescription) -> nn.Module:
    """The modules that a description stands for, their weights drawn at random, in training mode.

    Raises InvalidModel when the architecture cannot be built, an edit does not fit it, or both make it too large.
    """
    module = _build(description.architecture)
    try:
        with Budget():
            for edit in description.edits:
                if not isinstance(edit, NarrowedLayers) and edit.layer.count(".") > MOST_NESTED:
                    raise InvalidModel(f"the network's edits nest more than {MOST_NESTED} layers in each other")
                EDITS[edit.kind](module, edit)
    except TooLargeError as error:
        raise InvalidModel(f"the network's edits: {error}") from error
    if any(isinstance(edit, NarrowedLayers) for edit in description.edits):
        check_sizes(module, description.input_shape)
    return module


def _build(architecture: ArchitectureRef | Graph) -> nn.Module:
    if isinstance(architecture, ArchitectureRef):
        return build(architecture)
    try:
        with Budget():
            return GraphNetwork(architecture).train()
    except TooLargeError as error:
        raise InvalidModel(f"the network's graph: {error}") from error
