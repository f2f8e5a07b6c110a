"""The model that a user brought: a named architecture with the file's weights in it, or the file's own graph."""

from __future__ import annotations

from pathlib import Path

from modelpress.engine.architectures.registry import build, input_shape
from modelpress.engine.formats.state_dict import read_state_dict
from modelpress.engine.formats.weights import load_weights
from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.lift import Program
from modelpress.engine.network import Network
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Graph
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.task import ModelFile


def load_original(model: ModelFile, folder: Path) -> Network:
    """The network of an uploaded file that lies in `folder`, in evaluation mode, in fp32 on the CPU.

    Raises InvalidModel when the architecture cannot be built, the file cannot be read, or its keys and shapes are not
    the architecture's; the message says which.
    """
    ref = model.architecture
    shape = input_shape(ref, model.image_size)
    if model.preprocessing is not None:
        _check_channels(model.preprocessing, shape[0])
    module = build(ref)
    load_weights(module, read_state_dict(folder / model.path, model.format), f"architecture {ref.architecture!r}")
    description = NetworkDescription(architecture=ref, input_shape=shape, preprocessing=model.preprocessing)
    return Network(module.eval(), description)


def _check_channels(preprocessing: Preprocessing, channels: int) -> None:
    given = (len(preprocessing.mean), len(preprocessing.std))
    if given != (channels, channels):
        raise InvalidModel(
            f"the preprocessing has {given[0]} means and {given[1]} standard deviations, the model takes images of "
            f"{channels} channels; give one of each per channel"
        )


def _of_graph(program: Program, model: ModelFile) -> Network:
    """The network of a file that holds its graph. Raises InvalidModel when it takes no images."""
    module = lifted_network(program)
    shape = _image_shape(module.graph)
    if model.preprocessing is not None:
        _check_channels(model.preprocessing, shape[0])
    description = NetworkDescription(architecture=module.graph, input_shape=shape, preprocessing=model.preprocessing)
    return Network(module, description)


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
