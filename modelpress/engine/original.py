"""The model that a user brought: what the file describes, or a named architecture with the file's weights in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from torch import Tensor

from modelpress.engine.architectures.registry import LARGEST_IMAGE, build, input_shape, own_preprocessing
from modelpress.engine.formats.load import describes_network, load_network
from modelpress.engine.formats.state_dict import read_weights
from modelpress.engine.formats.weights import load_weights
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.network import graph_of
from modelpress.engine.graphs.onnx import reader as onnx
from modelpress.engine.network import Network, weighted_layers
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Graph
from modelpress.spec.network import CropCentre, NetworkDescription, Preprocessing, in_words
from modelpress.spec.task import ModelFile


def load_original(model: ModelFile, folder: Path, note: Callable[[str], object] = lambda _: None) -> Network:
    """The network of an uploaded file that lies in `folder`, in evaluation mode, in fp32 on the CPU.

    A file that describes its network comes with its edits, its grids and, for the weights that are zero, its masks, as
    if the steps that made it had just been taken. `note` is told in sentences what was chosen where the file and its
    owner left a choice.

    Raises InvalidModel when the architecture cannot be built, the file cannot be read, its keys and shapes are not the
    architecture's, or it contradicts what was said of it; the message says which.
    """
    path = folder / model.path
    if model.format == "pt2" or model.format == "onnx":
        return _as_said(model, _exported(path, model.format, note))
    if describes_network(path):
        network = _as_said(model, load_network(path))
        network.masks = _masks(network)
        return network
    if model.architecture is None or model.format == "compact":
        raise InvalidModel(
            "the file holds weights alone and does not say which network they are for; upload it with the name of its "
            "architecture"
        )
    ref = model.architecture
    shape = input_shape(ref, model.image_size)
    preprocessing = model.preprocessing or own_preprocessing(ref)
    if model.preprocessing is not None:
        _check_channels(model.preprocessing, shape[0])
        _check_crop(model.preprocessing, shape)
    elif preprocessing is not None:
        note(
            "the upload names no preprocessing, so pixels are normalised as the makers of the network do for their own "
            f"weights, by mean {preprocessing.mean} and deviation {preprocessing.std}; if the model was trained with "
            "others, upload it with `mean` and `std`"
        )
    module = build(ref)
    weights = read_weights(path, model.format, module.state_dict())
    load_weights(module, weights.tensors, f"architecture {ref.architecture!r}")
    for sentence in weights.notes:
        note(sentence)
    description = NetworkDescription(architecture=ref, input_shape=shape, preprocessing=preprocessing)
    return Network(module.eval(), description)


def _exported(path: Path, format: Literal["pt2", "onnx"], note: Callable[[str], object]) -> Network:
    """The network of a file that holds its graph. Raises InvalidModel when it takes no images."""
    if format == "pt2":
        module = lifted_network(pt2.read(path))
    else:
        module = lifted_network(onnx.read(path, note))
        onnx.check_against_runtime(path, module)
    graph = graph_of(module)
    return Network(module, NetworkDescription(architecture=graph, input_shape=_image_shape(graph)))


def _as_said(model: ModelFile, network: Network) -> Network:
    """The network that a file describes, once that agrees with what was said of it."""
    description = network.description
    _check_shape(description.input_shape)
    for said, given, held in (
        ("architecture", model.architecture, description.architecture),
        ("image_size", model.image_size, description.input_shape[1:]),
        ("preprocessing", model.preprocessing, description.preprocessing),
    ):
        if given is not None and held is not None and not _agree(given, held):
            raise InvalidModel(
                f"the file describes its network itself, and not as it was uploaded: its {said} is {_words(held)}, "
                f"`{said}` says {_words(given)}; leave it out, or upload the other file"
            )
    preprocessing = description.preprocessing or model.preprocessing
    if preprocessing is not None:
        _check_channels(preprocessing, description.input_shape[0])
        _check_crop(preprocessing, description.input_shape)
    network.description = description.model_copy(update={"preprocessing": preprocessing})
    return network


def _masks(network: Network) -> dict[str, Tensor]:
    """True where a weight is not zero, for each layer with zeros: a file does not tell pruned ones from other zeros."""
    weights = {
        f"{name}.weight": layer.get_parameter("weight").detach()
        for name, layer in weighted_layers(network.module).items()
    }
    return {name: weight != 0 for name, weight in weights.items() if bool((weight == 0).any())}


def _agree(given: ArchitectureRef | int | Preprocessing, held: object) -> bool:
    """Whether what was said with the upload is true of what the file holds; what was not said agrees."""
    match given, held:
        case int(size), tuple(sides):
            return all(side == size for side in sides)
        case ArchitectureRef(), ArchitectureRef():
            defaults = ARCHITECTURES[held.architecture].arguments if held.architecture in ARCHITECTURES else {}
            own = defaults | held.arguments
            return given.architecture == held.architecture and all(
                own.get(name) == value for name, value in given.arguments.items()
            )
    return given == held


def _words(value: object) -> str:
    match value:
        case ArchitectureRef() | Graph():
            return in_words(value)
        case Preprocessing(mean=mean, std=std):
            return f"mean {mean}, std {std}"
        case tuple(sides):
            return " x ".join(map(str, sides))
    return str(value)


def _check_shape(shape: tuple[int, int, int]) -> None:
    if not all(1 <= size <= LARGEST_IMAGE for size in shape):
        raise InvalidModel(
            f"the file's network takes images of {_words(shape)} (channels x height x width); each has to be from 1 "
            f"to {LARGEST_IMAGE}"
        )


def _check_channels(preprocessing: Preprocessing, channels: int) -> None:
    given = (len(preprocessing.mean), len(preprocessing.std))
    if given != (channels, channels):
        raise InvalidModel(
            f"the preprocessing has {given[0]} means and {given[1]} standard deviations, the model takes images of "
            f"{channels} channels; give one of each per channel"
        )


def _image_shape(graph: Graph) -> tuple[int, int, int]:
    shapes = list(graph.inputs.values())
    if len(shapes) != 1 or len(shapes[0].shape) != 4 or shapes[0].dtype.dtype != "float32":
        given = ", ".join(
            f"{shape.dtype.dtype} ({'batch' if shape.shape else ''}{''.join(f', {size}' for size in shape.shape[1:])})"
            for shape in shapes
        )
        raise InvalidModel(
            f"the model takes {given}, where one batch of images (batch, channels, height, width) is needed"
        )
    _, channels, height, width = shapes[0].shape
    return channels, height, width


def _check_crop(preprocessing: Preprocessing, shape: tuple[int, int, int]) -> None:
    _, height, width = shape
    resize = preprocessing.resize
    if isinstance(resize, CropCentre) and resize.shorter_side < max(height, width):
        raise InvalidModel(
            f"images are resized to a shorter side of {resize.shorter_side} pixels, and the model takes {height} x "
            f"{width} of them; give `resize` at least {max(height, width)}, or `stretch`"
        )
