"""Networks by name: what a caller writes to name one, and the names there are.

The names are data, so that the API can list and check them without torch. Tests hold the lists of torchvision's and
timm's names equal to what the pinned torchvision and timm say of themselves.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import Field, JsonValue

from modelpress.spec.characters import check_characters
from modelpress.spec.config import Config, Resource
from modelpress.spec.timm_networks import TIMM_NETWORKS

Family = Literal["modelpress", "torchvision", "timm"]

MOST_ARGUMENT_CHARACTERS = 10_000
"""Of the arguments of a network, written as JSON, in a request."""
MOST_ARGUMENT_DEPTH = 16
"""Lists and objects within one another in them, their own object counted; readers of JSON give up at some hundred."""


class ArchitectureRef(Config):
    """A network named by its architecture: the constructor's name and its arguments."""

    architecture: str = Field(description="Name from `GET /v1/architectures`.", examples=["vgg19_bn_cifar"])
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments of the constructor, such as `num_classes`. Only plain JSON values.",
        examples=[{"num_classes": 10}],
    )


class Architecture(Resource):
    """One entry of `GET /v1/architectures`."""

    name: str = Field(description="What `architecture` takes.")
    family: Family = Field(description="Who wrote the modules.")
    summary: str = Field(description="What it is, with its paper.")
    arguments: dict[str, JsonValue] = Field(
        description="Arguments with their defaults. torchvision's networks take those of their function, and timm's "
        "also `drop_rate`, `drop_path_rate`, `global_pool` and, where their input is fixed, `img_size`."
    )
    input_shape: tuple[int, int, int] = Field(description="Default input, channels x height x width.")


_CIFAR: dict[str, JsonValue] = {"num_classes": 10, "in_channels": 3}
_SHAPE = (3, 32, 32)


def _own(name: str, summary: str, **more: JsonValue) -> Architecture:
    return Architecture(
        name=name, family="modelpress", summary=summary, arguments={**_CIFAR, **more}, input_shape=_SHAPE
    )


def _vggs() -> list[Architecture]:
    return [
        _own(
            f"vgg{depth}{'_bn' if norm else ''}_cifar",
            f"VGG-{depth} for 32x32 images{' with batch normalisation' if norm else ''} (Simonyan and Zisserman 2014)",
            width=1.0,
        )
        for depth in (11, 13, 16, 19)
        for norm in (False, True)
    ]


def _resnets() -> list[Architecture]:
    return [
        _own(
            f"resnet{depth}_cifar",
            f"ResNet-{depth} for CIFAR, parameter-free shortcuts (He et al. 2015, section 4.2)",
            width=1.0,
        )
        for depth in (20, 32, 44, 56, 110)
    ]


_FOR_FEW_CORES = [
    _own(
        "resnet11_cifar",
        "Residual network of eleven layers that pools early (after Page 2018), for few processor cores",
        width=1.0,
    ),
    _own(
        "convnet8_cifar",
        "Convolutional network of eight layers that few epochs train well (after Jordan 2024)",
        width=1.0,
    ),
]


_PAPER = [
    _own("nin_cifar", "Network in network (Lin et al. 2013), the student of SlimNets; no batch normalisation"),
    _own("snn_1k", "SlimNets' shallow student: two 5x5 convolutions, one hidden layer of 1,000"),
    _own("snn_10k", "SlimNets' shallow student: two 5x5 convolutions, one hidden layer of 10,000"),
    _own("cnn_1k", "SlimNets' SNN-1k with one more hidden layer of 84"),
    _own("cnn_10k", "SlimNets' SNN-10k with one more hidden layer of 84"),
    _own("alexnet_cifar", "AlexNet with five convolutions for 32x32 images (Krizhevsky et al. 2012)"),
]

_TORCHVISION_NAMES = (  # noqa: SIM905  eighty quoted names would be harder to read
    "alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 "
    "densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 "
    "efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 "
    "maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small "
    "regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf "
    "regnet_y_128gf regnet_y_16gf regnet_y_1_6gf regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf "
    "regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d "
    "resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 "
    "squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn "
    "vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2 wide_resnet50_2"
).split()


def _torchvision(name: str) -> Architecture:
    size = 299 if name == "inception_v3" else 256 if name.startswith("swin_v2") else 224
    return Architecture(
        name=name,
        family="torchvision",
        summary=f"torchvision.models.{name}, built without weights; takes the arguments of that function",
        arguments={"num_classes": 1000},
        input_shape=(3, size, size),
    )


# A network of timm's is named as the Hugging Face Hub names timm's weights, without their tag: `timm/resnet50`.
TIMM_PREFIX = "timm/"
# What timm documents for all of its networks and is no code, no path and no address. A network may not take each.
TIMM_ARGUMENTS = ("num_classes", "in_chans", "drop_rate", "drop_path_rate", "global_pool", "img_size")


def _timm(name: str, height: int, width: int, num_classes: int) -> Architecture:
    return Architecture(
        name=f"{TIMM_PREFIX}{name}",
        family="timm",
        summary=f"timm's {name}, built without weights; needs the extra `timm` where models are read",
        arguments={"num_classes": num_classes, "in_chans": 3},
        input_shape=(3, height, width),
    )


def _timms() -> list[Architecture]:
    entries = [_timm(name, *facts) for facts, names in TIMM_NETWORKS.items() for name in names.split()]
    return sorted(entries, key=lambda entry: entry.name)


ARCHITECTURES: dict[str, Architecture] = {
    entry.name: entry
    for entry in [
        *_vggs(),
        *_resnets(),
        *_FOR_FEW_CORES,
        *_PAPER,
        *(_torchvision(name) for name in _TORCHVISION_NAMES),
        *_timms(),
    ]
}


def check_arguments(arguments: Mapping[str, JsonValue]) -> None:
    """Raises ValueError for arguments that no request may hold: too many, too deep, or text that cannot be stored.

    For requests alone: what was accepted before there were limits is still read.
    """
    depth = 0
    holders: list[JsonValue] = [dict(arguments)]
    while holders:
        depth += 1
        if depth > MOST_ARGUMENT_DEPTH:
            raise ValueError(
                f"the arguments have more than {MOST_ARGUMENT_DEPTH} lists and objects within one another; nest less"
            )
        parts = [part for holder in holders for part in _parts(holder)]
        holders = [part for part in parts if isinstance(part, dict | list)]
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MOST_ARGUMENT_CHARACTERS:
        raise ValueError(
            f"the arguments take {len(text):,} characters of JSON, and may take {MOST_ARGUMENT_CHARACTERS:,}; leave "
            "out those that have their defaults"
        )
    check_characters(text)


def _parts(holder: JsonValue) -> Collection[JsonValue]:
    return holder.values() if isinstance(holder, dict) else holder if isinstance(holder, list) else ()


def unknown_arguments(entry: Architecture, arguments: Collection[str]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments that a network does not take, and those that it does; none where only the engine knows them."""
    if entry.family == "torchvision":
        return [], ()
    known = TIMM_ARGUMENTS if entry.family == "timm" else tuple(entry.arguments)
    return [name for name in arguments if name not in known], known
