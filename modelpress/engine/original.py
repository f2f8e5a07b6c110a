"""The model that a user brought: its named architecture with the file's weights in it."""

from __future__ import annotations

from pathlib import Path

from modelpress.engine.architectures.registry import build, input_shape
from modelpress.engine.formats.state_dict import read_state_dict
from modelpress.engine.formats.weights import load_weights
from modelpress.engine.network import Network
from modelpress.spec.failure import InvalidModel
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
