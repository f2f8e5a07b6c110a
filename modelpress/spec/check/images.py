"""Do the images of a data set fit a network's input?"""

from __future__ import annotations

from modelpress.spec.check.misfit import Misfit, shape_of
from modelpress.spec.inspection import DatasetInspection
from modelpress.spec.network import NetworkSummary

_RESIZE = "upload the model with `resize`, which says how images are brought to its input size, or resize the images"


def image_misfits(network: NetworkSummary, dataset: DatasetInspection) -> list[Misfit]:
    """What keeps the network from taking the images: their channels, unless grey can become colour or the other way
    round, and their size, unless the preprocessing says how they are resized."""
    (channels, *size), (wanted, *wanted_size) = dataset.image_shape, network.input_shape
    resizes = network.preprocessing is not None and network.preprocessing.resize is not None
    if channels != wanted and {channels, wanted} != {1, 3}:
        message = (
            f"its images have {channels} channels, the model takes {wanted}; only grey images and those of three "
            "colours are turned into each other: save them with as many channels as the model takes"
        )
    elif resizes:
        return []
    elif dataset.smallest_size is not None and dataset.largest_size is not None:
        message = (
            f"its images differ in size, from {shape_of(dataset.smallest_size)} to {shape_of(dataset.largest_size)}, "
            f"the model takes {shape_of(wanted_size)} (height x width); {_RESIZE}"
        )
    elif size != wanted_size:
        message = (
            f"its images are {shape_of(dataset.image_shape)}, the model takes {shape_of(network.input_shape)} "
            f"(channels x height x width); {_RESIZE}, or upload the model with the right `image_size`"
        )
    else:
        return []
    return [Misfit(where="dataset", message=message)]
