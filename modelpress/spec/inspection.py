"""What an inspection found in an upload."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, computed_field

from modelpress.spec.config import Resource
from modelpress.spec.network import NetworkSummary, Preprocessing

ModelFormat = Literal["safetensors", "pt", "pt2", "onnx", "compact"]
"""What an uploaded model is stored as. All but `pt` and others' safetensors say themselves which network they hold."""

DatasetFormat = Literal["zip", "tar", "npz", "npy", "parquet"]
DatasetLayout = Literal["image_folders", "arrays", "cifar_python", "cifar_binary", "webdataset", "table"]


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
    macs: int | None = Field(
        default=None,
        description="Multiply-accumulates of its own calls for one image; 0 if it is never called, null where an older "
        "version inspected the model.",
    )
    calls: tuple[LayerCall, ...] = Field(
        default=(), description="Each call of it for one image; empty where none is known."
    )
    prunable: bool = Field(description="Step `prune` can treat it.")
    full_rank: int | None = Field(
        description="Largest rank for step `factorize` by its default scheme, in each group; null where that cannot "
        "treat it."
    )
    untreated: str | None = Field(default=None, description="Why a method cannot treat it, in words; null otherwise.")


class TypeFigures(Resource):
    """The layers of one type together."""

    type: str = Field(description="Class of the layers, such as Conv2d or BatchNorm2d.")
    layers: int = Field(description="How many there are, each counted once.")
    parameters: int = Field(description="Parameters of their own, shared ones counted where they come first.")
    macs: int = Field(
        description="Multiply-accumulates of their calls for one image. What is computed between layers, such as the "
        "products of an attention, is in none of them."
    )


class LeftAlone(Resource):
    """Layers that a recipe would leave as they are, for one reason."""

    reason: str = Field(description="Why they would stay as they are.")
    layers: tuple[str, ...] = Field(description="Names of the layers.")


class Estimate(Resource):
    """What steps would make of the model's file, without any training, estimated from its shapes and some weights."""

    steps: tuple[dict[str, JsonValue], ...] = Field(
        description="The steps, as a recipe has them; what is not given has its default."
    )
    stored_bytes: int | None = Field(description="Bytes of the compact container; null where `misfit` says why.")
    share: float | None = Field(description="These over `fp32_bytes`; null where `misfit` says why.")
    left_alone: tuple[LeftAlone, ...] = Field(default=(), description="Layers that it would leave alone, by reason.")
    misfit: str | None = Field(
        default=None, description="Why the steps cannot be carried out, or not estimated; null where they can."
    )


class Footprint(Resource):
    """Memory of the network's passes over one image in fp32, bytes: what estimates of a job's memory are made of."""

    forward_bytes: int = Field(description="Of a pass alone: input and output of the layer where they are largest.")
    training_bytes: int = Field(description="Of a training: all that a forward pass keeps for the backward pass.")


class ModelInspection(Resource):
    """What an uploaded model is."""

    network: NetworkSummary = Field(description="Its structure.")
    format: ModelFormat = Field(description="Format of the uploaded file.")
    parameters: int = Field(description="Number of parameters.")
    macs: int = Field(description="Multiply-accumulates for one image.")
    num_classes: int = Field(description="Number of outputs.")
    fp32_bytes: int = Field(description="Size of the state dict as an fp32 safetensors file: the original's bytes.")
    layers: tuple[LayerInspection, ...] = Field(description="Layers with weights, in the order of `named_modules()`.")
    layer_types: tuple[TypeFigures, ...] = Field(
        default=(), description="All layers by type, norms and activations too; empty from an older version."
    )
    footprint: Footprint | None = Field(
        default=None,
        description="Memory for each image; null from an older version, and where it cannot be told without running "
        "the network in training mode.",
    )
    estimates: tuple[Estimate, ...] = Field(
        default=(), description="What each method would make of the file; empty from an older version."
    )
    notes: tuple[str, ...] = Field(
        default=(), description="What was chosen where the file and its owner left a choice, in sentences."
    )

    @computed_field(description="Channels, height, width of an image, as the network takes it.")  # type: ignore[prop-decorator]
    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an image."""
        return self.network.input_shape

    @computed_field(description="Shape of the outputs for one image: the score of each class.")  # type: ignore[prop-decorator]
    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the outputs for one image."""
        return (self.num_classes,)


class DatasetInspection(Resource):
    """What an uploaded data set is."""

    format: DatasetFormat = Field(description="Format of the uploaded file.")
    layout: DatasetLayout | None = Field(
        default=None, description="How the data set lies in the file; null where an earlier version inspected it."
    )
    classes: tuple[str, ...] = Field(description="Names of the classes, by label; empty when no image has one.")
    train_examples: int = Field(description="Number of images to train on, before a split is drawn.")
    unlabelled_examples: int = Field(
        default=0, ge=0, description="Those of them without a label, which only a teacher can make use of."
    )
    heldout_examples: int | None = Field(
        description="Null when no split is given: then 10% are drawn by the job's seed."
    )
    unused_examples: int = Field(
        default=0, ge=0, description="Images of a validation part beside a test part: neither trained on nor held out."
    )
    image_shape: tuple[int, int, int] = Field(
        description="Channels, height, width; of the first image where they differ in size."
    )
    smallest_size: tuple[int, int] | None = Field(
        default=None, description="Least height and least width of the images; null where all are of one size."
    )
    largest_size: tuple[int, int] | None = Field(
        default=None, description="Greatest height and greatest width of the images; null where all are of one size."
    )
    statistics: Preprocessing = Field(
        description="Mean and standard deviation of the training pixels, per channel: what pixels are normalised by "
        "where the model was uploaded without its own. Of images resized to the first one's size where they differ."
    )
