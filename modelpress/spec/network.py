"""A network as data: enough to build the same modules again before its weights are loaded.

    architecture and arguments  ->  the modules as their authors wrote them
    or a graph                  ->  layers and operators, for a network that came without its constructor
    edits, in order             ->  what steps changed in the structure (a factorized layer, say)

Weights are not part of it. No code, no pickle: this is what our files carry.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.graph import Graph, GraphOutline, outline

# Files that were written before there was a choice have none.
BATCH_NORM: bool = Field(default=False, description="Batch norms stand between the layers, for convolutions only.")


class FactorizedLayer(Config):
    """The layer of this name became a pair with `rank` channels between its two halves."""

    kind: Literal["factorized_layer"] = "factorized_layer"
    layer: str = Field(description="Name of the layer that became a pair.")
    scheme: Literal["svd", "vertical_horizontal", "channel_svd"] = Field(
        description="How the weight was split: one SVD, vertical and horizontal kernels, or fewer channels and back."
    )
    rank: int = Field(ge=1, description="Channels between the two halves, in each group of a grouped convolution.")
    batch_norm: bool = BATCH_NORM


class NarrowedLayer(Config):
    """How many channels a layer has left. A norm and a depthwise convolution have as many inputs as outputs."""

    layer: str = Field(description="Name of the layer.")
    inputs: int = Field(ge=1, description="Input channels or features.")
    outputs: int = Field(ge=1, description="Output channels or features.")


class TuckerLayer(Config):
    """The convolution of this name became a 1 x 1, a thinner k x k and a 1 x 1 one (Tucker-2)."""

    kind: Literal["tucker_layer"] = "tucker_layer"
    layer: str = Field(description="Name of the convolution.")
    input_rank: int = Field(ge=1, description="Channels between the first and the second.")
    output_rank: int = Field(ge=1, description="Channels between the second and the third.")
    batch_norm: bool = BATCH_NORM


class CpLayer(Config):
    """The convolution of this name became a 1 x 1, a k x 1 and a 1 x k depthwise and a 1 x 1 one (CP)."""

    kind: Literal["cp_layer"] = "cp_layer"
    layer: str = Field(description="Name of the convolution.")
    rank: int = Field(ge=1, description="Channels between the four.")
    batch_norm: bool = BATCH_NORM


class FoldedNorm(Config):
    """The batch norm of this name went into the convolution before it, which has a bias since."""

    kind: Literal["folded_norm"] = "folded_norm"
    layer: str = Field(description="Name of the batch norm, an identity since.")
    into: str = Field(description="Name of the convolution.")


class NarrowedLayers(Config):
    """Channels were taken out of these layers, in one step."""

    kind: Literal["narrowed_layers"] = "narrowed_layers"
    layers: tuple[NarrowedLayer, ...] = Field(min_length=1, description="Each layer that became smaller, once.")


Edit = FactorizedLayer | TuckerLayer | CpLayer | FoldedNorm | NarrowedLayers


LARGEST_SIDE = 4096
Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATION: Interpolation = Field(
    default="bilinear",
    description="How pixels between pixels are found. Both are antialiased where an image becomes smaller.",
)


class CropCentre(Config):
    """The shorter side becomes so long, the other in proportion, and the input is cut out of the middle."""

    kind: Literal["crop"] = "crop"
    shorter_side: int = Field(
        ge=1,
        le=LARGEST_SIDE,
        description="Length of the shorter side, pixels: at least the input's longer one. ImageNet's usual: 256 for an "
        "input of 224.",
    )
    interpolation: Interpolation = INTERPOLATION


class Stretch(Config):
    """Height and width become the input's, whatever the image's proportions were."""

    kind: Literal["stretch"] = "stretch"
    interpolation: Interpolation = INTERPOLATION


Resize = Annotated[CropCentre | Stretch, Field(discriminator="kind")]


STRETCH = "stretch"


def read_resize(text: str, interpolation: Interpolation = "bilinear") -> CropCentre | Stretch:
    """Resizing from the one word that uploads say it by: `stretch`, or the pixels of the shorter side before the crop.

    Raises ValueError when it is neither.
    """
    if text == STRETCH:
        return Stretch(interpolation=interpolation)
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 4 and 1 <= int(text) <= LARGEST_SIDE):
        raise ValueError(
            f"it must be `{STRETCH}`, or the pixels of the shorter side before the crop, from 1 to {LARGEST_SIDE}"
        )
    return CropCentre(shorter_side=int(text), interpolation=interpolation)


class Preprocessing(Config):
    """What is done to an image before it reaches the network: resized, if at all, then its pixels scaled to 0..1, then
    (x - mean) / std by channel."""

    mean: tuple[float, ...] = Field(description="Mean per channel, on the scale 0..1.")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        description="Standard deviation per channel, on the scale 0..1."
    )
    resize: Resize | None = Field(
        default=None, description="How images are brought to the input's size; null where they must have it already."
    )


class _NetworkFacts(Config):
    """What is said of a network beside its architecture."""

    edits: tuple[Annotated[Edit, Field(discriminator="kind")], ...] = Field(
        default=(), description="What steps changed in the structure, in order."
    )
    input_shape: tuple[int, int, int] = Field(description="Channels, height, width.")
    preprocessing: Preprocessing | None = Field(
        default=None, description="Null until it is known: given with the upload, or estimated from the data."
    )
    classes: tuple[str, ...] | None = Field(default=None, description="Names of the outputs, where known.")


class NetworkSummary(_NetworkFacts):
    """A network as inspections and reports show it: a graph in short."""

    architecture: ArchitectureRef | GraphOutline = Field(description="The modules as their authors wrote them.")


class NetworkDescription(_NetworkFacts):
    """The structure of a network, its input and what its outputs mean."""

    architecture: ArchitectureRef | Graph = Field(description="The modules as their authors wrote them.")

    def edited(self, edit: Edit) -> NetworkDescription:
        """This network after one more edit."""
        return self.model_copy(update={"edits": (*self.edits, edit)})

    def summary(self) -> NetworkSummary:
        """The same in short."""
        short = outline(self.architecture) if isinstance(self.architecture, Graph) else self.architecture
        return NetworkSummary(
            architecture=short,
            edits=self.edits,
            input_shape=self.input_shape,
            preprocessing=self.preprocessing,
            classes=self.classes,
        )


def in_words(architecture: ArchitectureRef | Graph | GraphOutline) -> str:
    """`vgg19_bn_cifar(width=0.5)`, or `graph of 23 layers`."""
    if isinstance(architecture, Graph):
        architecture = outline(architecture)
    if isinstance(architecture, GraphOutline):
        return f"graph of {architecture.layers} layers"
    arguments = ", ".join(f"{name}={str(value)[:80]}" for name, value in architecture.arguments.items())
    return f"{architecture.architecture}({arguments})" if arguments else architecture.architecture
