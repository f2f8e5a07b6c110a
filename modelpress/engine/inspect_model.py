"""What an uploaded model is, and what each method can do with its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from modelpress.engine.architectures.registry import REJECTED
from modelpress.engine.estimate.estimate import estimate
from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.footprint import footprint
from modelpress.engine.formats.safetensors import stored_bytes
from modelpress.engine.graphs.network import ends_in_softmax
from modelpress.engine.inspect_layers import inspect_layers
from modelpress.engine.layer_types import figures_by_type, own_layers
from modelpress.engine.measure import count_layer_macs, count_parameters, evaluating
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.spec.failure import InvalidModel
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.task import MOST_INSPECTION_BYTES, ModelFile

PROBABILITIES = (
    "the outputs of the model are probabilities, which a softmax makes of scores; losses and divergences are taken of "
    "their logarithms, and the files give probabilities, too. A student of another architecture gives scores: put a "
    "softmax behind it"
)
OTHER_PROBABILITIES = (
    "the outputs of the model look like probabilities, and do not come from a softmax at its end. Losses, divergences "
    "and trainings take them for scores: figures of loss and divergence tell less then, and what is trained may be "
    "less accurate. Export the model so that it gives the scores"
)

# Of a sum of probabilities in fp32.
_ROUNDING = 1e-5

# The estimates may repeat each name some fourteen times. The layers of torchvision's networks have 27 kB of names at
# most.
_MOST_NAME_BYTES = 128 * 2**10


def inspect_upload(model: ModelFile, folder: Path) -> ModelInspection:
    """As `inspect_model`, with the file that each method would give and the memory that passes take.

    That is what is said of a model before any job, and shown to everyone who looks at it: raises InvalidModel, too,
    where it would be megabytes.
    """
    notes: list[str] = []
    network = load_original(model, folder, notes.append)
    _check_names(network.module)
    found = _inspect(network, model, notes)
    memory = footprint(network.module, network.description.input_shape)
    whole = found.model_copy(update={"estimates": estimate(network, found), "footprint": memory})
    _check_length(whole)
    return whole


def inspect_model(model: ModelFile, folder: Path) -> ModelInspection:
    """Load the file, and run the network on a grey image. Raises InvalidModel when that does not work."""
    notes: list[str] = []
    return _inspect(load_original(model, folder, notes.append), model, notes)


def _check_names(module: nn.Module) -> None:
    names = list(own_layers(module))
    size = sum(len(name.encode()) for name in names)
    if size > _MOST_NAME_BYTES:
        raise InvalidModel(
            f"the names of the model's {len(names)} layers come to {size:,} bytes together, the limit is "
            f"{_MOST_NAME_BYTES:,}, such as {max(names, key=len)[:80]!r}; give them shorter names"
        )


def _check_length(found: ModelInspection) -> None:
    size = len(found.model_dump_json(indent=2).encode())  # as `write_result` writes it
    if size > MOST_INSPECTION_BYTES:
        calls = sum(len(layer.calls) for layer in found.layers)
        edits, classes = len(found.network.edits), len(found.network.classes or ())
        raise InvalidModel(
            f"what there is to say of the model comes to {size:,} bytes, the limit is {MOST_INSPECTION_BYTES:,}: it "
            f"has {len(found.layers)} layers with weights, which are called {calls} times, {edits} changes that steps "
            f"made and names of {classes} classes; use a smaller network"
        )


def _inspect(network: Network, model: ModelFile, notes: Sequence[str]) -> ModelInspection:
    outputs = _outputs(network)
    if _are_probabilities(outputs):
        notes = [*notes, PROBABILITIES if ends_in_softmax(network.module) else OTHER_PROBABILITIES]
    shape = network.description.input_shape
    leaves = own_layers(network.module)
    macs, by_layer = count_layer_macs(network.module, leaves, shape)
    layers = inspect_layers(network.module, shape)
    return ModelInspection(
        network=network.description.summary(),
        format=model.format,
        parameters=count_parameters(network.module),
        macs=macs,
        num_classes=outputs.shape[1],
        fp32_bytes=stored_bytes(network.module.state_dict()),
        layers=tuple(layer.model_copy(update={"macs": by_layer[layer.name]}) for layer in layers),
        layer_types=figures_by_type(leaves, by_layer),
        notes=tuple(notes),
    )


def _are_probabilities(outputs: Tensor) -> bool:
    """Of one image and several classes; scores may be so by chance, but not to the last digits."""
    total = float(outputs.double().sum())
    return outputs.shape[1] > 1 and bool((outputs >= 0).all()) and abs(total - 1) < _ROUNDING


def _outputs(network: Network) -> Tensor:
    """Scores (1, classes) of an image of zeros, which is mid-grey after the usual preprocessing."""
    shape = network.description.input_shape
    size = " x ".join(map(str, shape))
    try:
        with evaluating(network.module), torch.inference_mode():
            outputs = network.module(torch.zeros(1, *shape))
    except REJECTED as error:
        ran_out = exhaustion(error, f"running the model on one image of {size}")
        if ran_out is not None:
            raise ran_out from error
        raise InvalidModel(
            f"the model does not take images of {size} (channels x height x width): "
            f"{str(error).partition(chr(10))[0][:300]}; give the `image_size` that it was trained with"
        ) from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[0] != 1:
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InvalidModel(f"the model gives {found} for one image of {size}, where one score per class is needed")
    if outputs.shape[1] < 2:
        raise InvalidModel("the model has one output; a classifier has at least two")
    if not torch.isfinite(outputs).all():
        raise InvalidModel(
            f"the model's outputs for an image of zeros are not finite numbers; {_culprit(network.module)}"
        )
    return outputs


def _culprit(module: nn.Module) -> str:
    broken = [name for name, tensor in module.state_dict().items() if not torch.isfinite(tensor).all()]
    if not broken:
        return "its weights are finite, but too large for fp32"
    more = f" and {len(broken) - 12} more" if len(broken) > 12 else ""
    return f"these weights are not: {', '.join(broken[:12])}{more}"
