"""What an inspection found in an upload."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelpress.spec.config import Resource
from modelpress.spec.network import NetworkSummary, Preprocessing

ModelFormat = Literal["safetensors", "pt", "pt2", "onnx", "compact"]
"""What an uploaded model is stored as. All but `pt` and others' safetensors say themselves which network they hold."""


class LayerCall(Resource):
    """One call of a layer, for one image: the sizes of what it is given and gives, but for channels or features."""

    input_size: tuple[int, ...] = Field(description="Height and width of a convolution's input.")
    output_size: tuple[int, ...] = Field(description="Height and width of its output.")


class LayerInspection(Resource):
    """One layer that has weights, and what each method can do with it."""

    name: str = Field(description="Name of the module, as `named_modules()` gives it.")
    type: str = Field(description="Class of torch that the layer is, or derives from, such as Conv2d.")
    weight_shape: tuple[int, ...] = Field(description="Shape of its weight.")
    groups: int = Field(default=1, ge=1, description="Groups of a convolution; 1 for other layers.")
    parameters: int = Field(description="Number of its weights and biases.")
    calls: tuple[LayerCall, ...] = Field(
        default=(), description="Each call of it for one image; empty where none is known."
    )
    prunable: bool = Field(description="Step `prune` can treat it.")
    full_rank: int | None = Field(
        description="Largest rank for step `factorize` by its default scheme, in each group; null where that cannot "
        "treat it."
    )
    untreated: str | None = Field(default=None, description="Why a method cannot treat it, in words; null otherwise.")


class ModelInspection(Resource):
    """What an uploaded model is."""

    network: NetworkSummary = Field(description="Its structure.")
    format: ModelFormat = Field(description="Format of the uploaded file.")
    parameters: int = Field(description="Number of parameters.")
    macs: int = Field(description="Multiply-accumulates for one image.")
    num_classes: int = Field(description="Number of outputs.")
    fp32_bytes: int = Field(description="Size of the state dict as an fp32 safetensors file: the original's bytes.")
    layers: tuple[LayerInspection, ...] = Field(description="Layers with weights, in the order of `named_modules()`.")


class DatasetInspection(Resource):
    """What an uploaded data set is."""

    format: Literal["zip", "tar", "npz"] = Field(description="Format of the uploaded file.")
    classes: tuple[str, ...] = Field(description="Names of the classes, by label.")
    train_examples: int = Field(description="Number of images to train on, before a split is drawn.")
    unlabelled_examples: int = Field(
        default=0, ge=0, description="Those of them without a label, which only a teacher can make use of."
    )
    heldout_examples: int | None = Field(
        description="Null when no split is given: then 10% are drawn by the job's seed."
    )
    image_shape: tuple[int, int, int] = Field(description="Channels, height, width; the same for every image.")
    statistics: Preprocessing = Field(description="Mean and standard deviation of the training pixels, per channel.")
