"""The structure of a network with channels taken out, and which of the old weights it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import NarrowedLayer, NarrowedLayers

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Removal:
    """Channels that leave one layer, by their indices; a norm and a depthwise convolution have outputs alone."""

    inputs: set[int] = field(default_factory=set)
    outputs: set[int] = field(default_factory=set)


def sizes_of(layer: nn.Module) -> tuple[int, int] | None:
    """Input and output channels of a layer that can be narrowed, None of any other.

    Grouped convolutions cannot, but for depthwise ones, whose channels come and go as pairs.
    """
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 and not is_depthwise(layer):
            return None
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, NORMS):
        return layer.num_features, layer.num_features
    return None


def is_depthwise(layer: nn.Module) -> bool:
    """Each channel is filtered by itself; one of a single channel is an ordinary convolution."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels > 1


def narrow_layers(module: nn.Module, edit: NarrowedLayers) -> None:
    """Shrink the named layers in place, to their first channels.

    Raises InvalidModel when a layer is not there, cannot be narrowed, would grow, or is named twice: edits also come
    from files that others wrote. That the sizes fit each other is seen by `check_sizes`, behind all edits.
    """
    names = [narrowed.layer for narrowed in edit.layers]
    if len(set(names)) < len(names):
        raise InvalidModel("the network's edits narrow the same layer twice in one step")
    for narrowed in edit.layers:
        try:
            layer = module.get_submodule(narrowed.layer)
        except AttributeError as error:
            raise InvalidModel(f"the network has no layer {narrowed.layer!r} to narrow") from error
        sizes = sizes_of(layer)
        if sizes is None:
            raise InvalidModel(f"layer {narrowed.layer!r}, a {type(layer).__name__}, cannot be narrowed")
        if narrowed.inputs > sizes[0] or narrowed.outputs > sizes[1]:
            raise InvalidModel(
                f"layer {narrowed.layer!r} has {sizes[0]} inputs and {sizes[1]} outputs; "
                f"it cannot be narrowed to {narrowed.inputs} and {narrowed.outputs}"
            )
        if (is_depthwise(layer) or isinstance(layer, NORMS)) and narrowed.inputs != narrowed.outputs:
            raise InvalidModel(f"layer {narrowed.layer!r} must have as many inputs as outputs")
        state = {name: _first(tensor, layer, narrowed) for name, tensor in _tensors(layer).items()}
        _resize(layer, narrowed)
        for name, tensor in state.items():
            old = getattr(layer, name)
            fresh = nn.Parameter(tensor, old.requires_grad) if isinstance(old, nn.Parameter) else tensor
            setattr(layer, name, fresh)


def check_sizes(module: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Raise InvalidModel unless the layers fit each other for an image of `input_shape`; computes shapes alone."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    training = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            functional_call(module, shapes, (torch.empty(1, *input_shape, device="meta"),))
    except Exception as error:  # a network's code may do anything with sizes it did not expect
        raise InvalidModel(f"the network's edits leave layers that do not fit each other: {error}") from error
    finally:
        for layer, mode in training.items():
            layer.training = mode


def cut(tensor: Tensor, layer: nn.Module, inputs: Tensor, outputs: Tensor) -> Tensor:
    """What is left of a layer's weight (out, in, ...), bias or statistics (out,), or of a tensor shaped like one."""
    if tensor.ndim == 0:
        return tensor
    left = tensor.detach().index_select(0, outputs.to(tensor.device))
    # One number for each output channel may have the weight's axes all the same, as timm's standardised layers keep it.
    if tensor.ndim == 1 or is_depthwise(layer) or tensor.shape[1] in (1, len(inputs)):
        return left
    return left.index_select(1, inputs.to(tensor.device))


def kept(layer: nn.Module, removal: Removal) -> tuple[Tensor, Tensor]:
    """Indices of the inputs and the outputs that stay, rising."""
    inputs, outputs = sizes_of(layer) or (0, 0)
    gone = removal.outputs if is_depthwise(layer) or isinstance(layer, NORMS) else removal.inputs
    return _without(inputs, gone), _without(outputs, removal.outputs)


def edit_of(module: nn.Module, removals: Mapping[str, Removal]) -> NarrowedLayers:
    """The edit that takes these channels out of the network, as far as its shapes go."""
    layers = []
    for name, removal in removals.items():
        inputs, outputs = kept(module.get_submodule(name), removal)
        layers.append(NarrowedLayer(layer=name, inputs=len(inputs), outputs=len(outputs)))
    return NarrowedLayers(layers=tuple(layers))


def edit_between(before: nn.Module, after: nn.Module) -> NarrowedLayers:
    """The edit that makes one network's shapes those of the other, which has the same layers with fewer channels."""
    layers = []
    for name, layer in before.named_modules():
        sizes, left = sizes_of(layer), sizes_of(after.get_submodule(name))
        if left is not None and left != sizes:
            layers.append(NarrowedLayer(layer=name, inputs=left[0], outputs=left[1]))
    return NarrowedLayers(layers=tuple(layers))


def remove(module: nn.Module, removals: Mapping[str, Removal]) -> dict[str, Tensor]:
    """What is left, by name, of each tensor that loses some of these channels; other tensors stay as they are."""
    state = {}
    for name, removal in removals.items():
        layer = module.get_submodule(name)
        sides = kept(layer, removal)
        for key, tensor in _tensors(layer).items():
            if tensor.ndim > 0:  # all but the number of batches that a norm has seen
                state[f"{name}.{key}"] = cut(tensor, layer, *sides)
    return state


def zeroed(module: nn.Module, removals: Mapping[str, Removal]) -> dict[str, Tensor]:
    """By name, what `remove` takes of with zeros in its place: the same outputs, unless a norm spans channels."""
    state = {}
    for name, removal in removals.items():
        layer = module.get_submodule(name)
        for key in ("weight", "bias"):
            tensor = _tensors(layer).get(key)
            if tensor is None:
                continue
            rest = tensor.detach().clone()
            rest[sorted(removal.outputs)] = 0
            if tensor.ndim > 1 and not is_depthwise(layer):
                rest[:, sorted(removal.inputs)] = 0
            state[f"{name}.{key}"] = rest
    return state


def _first(tensor: Tensor, layer: nn.Module, narrowed: NarrowedLayer) -> Tensor:
    """The first channels of a tensor of the layer, as a tensor of its own."""
    if tensor.ndim == 0:
        return tensor
    left = tensor.detach()[: narrowed.outputs]
    if tensor.ndim > 1 and not is_depthwise(layer):
        left = left[:, : narrowed.inputs]
    return left.clone(memory_format=torch.contiguous_format)


def _without(count: int, gone: set[int]) -> Tensor:
    stay = torch.ones(count, dtype=torch.bool)
    stay[list(gone)] = False
    return stay.nonzero().flatten()


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


def _resize(layer: nn.Module, narrowed: NarrowedLayer) -> None:
    if isinstance(layer, nn.Conv2d):
        if is_depthwise(layer):
            layer.groups = narrowed.outputs
        layer.in_channels, layer.out_channels = narrowed.inputs, narrowed.outputs
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = narrowed.inputs, narrowed.outputs
    elif isinstance(layer, NORMS):
        layer.num_features = narrowed.outputs
