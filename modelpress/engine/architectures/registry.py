"""Every architecture that can be named, and how it is built. The names with their facts are in the spec.

To add one: a file beside this one, a line in BUILDERS, and its entry in `modelpress.spec.architecture`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from pydantic import JsonValue
from torch import nn

from modelpress.engine.architectures.alexnet import AlexNet
from modelpress.engine.architectures.budget import Budget, TooLargeError
from modelpress.engine.architectures.convnet8 import ConvNet8
from modelpress.engine.architectures.nin import NIN
from modelpress.engine.architectures.resnet import ResNet
from modelpress.engine.architectures.resnet11 import ResNet11
from modelpress.engine.architectures.students import CNN, SNN
from modelpress.engine.architectures.vgg import VGG
from modelpress.engine.exhaustion import exhaustion
from modelpress.spec.architecture import ARCHITECTURES, TIMM_PREFIX, Architecture, ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import Preprocessing

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "vgg11_cifar": partial(VGG, 11, False),
    "vgg11_bn_cifar": partial(VGG, 11, True),
    "vgg13_cifar": partial(VGG, 13, False),
    "vgg13_bn_cifar": partial(VGG, 13, True),
    "vgg16_cifar": partial(VGG, 16, False),
    "vgg16_bn_cifar": partial(VGG, 16, True),
    "vgg19_cifar": partial(VGG, 19, False),
    "vgg19_bn_cifar": partial(VGG, 19, True),
    "resnet20_cifar": partial(ResNet, 20),
    "resnet32_cifar": partial(ResNet, 32),
    "resnet44_cifar": partial(ResNet, 44),
    "resnet56_cifar": partial(ResNet, 56),
    "resnet110_cifar": partial(ResNet, 110),
    "resnet11_cifar": ResNet11,
    "convnet8_cifar": ConvNet8,
    "nin_cifar": NIN,
    "snn_1k": partial(SNN, 1_000),
    "snn_10k": partial(SNN, 10_000),
    "cnn_1k": partial(CNN, 1_000),
    "cnn_10k": partial(CNN, 10_000),
    "alexnet_cifar": AlexNet,
}

# What a constructor raises when a value makes no sense to it; torchvision's and timm's check little themselves.
REJECTED = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

LARGEST_IMAGE = 4096


def build(ref: ArchitectureRef) -> nn.Module:
    """The network of this name with these arguments, its weights drawn at random, in training mode.

    Raises InvalidModel for an unknown name or argument, a value that the network cannot take, or one that makes it
    larger than `budget.MOST_ELEMENTS` parameters, and OutOfMemory when this machine cannot hold it.
    """
    refusal, builder = _prepared(ref)
    if refusal is not None:
        raise InvalidModel(f"architecture {ref.architecture!r}: {refusal}")
    try:
        with Budget():
            return builder(**ref.arguments)
    except TooLargeError as error:
        raise InvalidModel(f"architecture {ref.architecture!r} with {_given(ref)}: {error}; lower them") from error
    except REJECTED as error:
        ran_out = exhaustion(error, f"building architecture {ref.architecture!r}")
        if ran_out is not None:
            raise ran_out from error
        raise InvalidModel(
            f"architecture {ref.architecture!r} cannot be built with {_given(ref)}: {_first_line(error)}"
        ) from error


def own_preprocessing(ref: ArchitectureRef) -> Preprocessing | None:
    """What the makers of the network do to pixels before it, for the weights that they publish; None where they do not
    say, or for other channels or classes.

    Raises InvalidModel for an unknown name, and where the package that has the network is not installed.
    """
    family = _entry(ref).family
    if family == "torchvision":
        from modelpress.engine.architectures import torchvision

        return torchvision.published_preprocessing(ref.architecture, ref.arguments)
    if family != "timm":
        return None
    from modelpress.engine.architectures import timm

    own = timm.facts(ref.architecture.removeprefix(TIMM_PREFIX)).preprocessing
    return None if own is None or ref.arguments.get("in_chans", len(own.mean)) != len(own.mean) else own


def input_shape(ref: ArchitectureRef, image_size: int | None = None) -> tuple[int, int, int]:
    """Channels, height and width that the network takes: the architecture's own unless its arguments or `image_size`
    say otherwise.

    Raises InvalidModel for an unknown name, and for an image size below 1 or above LARGEST_IMAGE.
    """
    channels, height, width = _entry(ref).input_shape
    given = ref.arguments.get("in_channels", ref.arguments.get("in_chans"))
    if isinstance(given, int):
        channels = given
    match ref.arguments:  # the arguments of torchvision's and timm's that fix the size of the images
        case {"image_size": int(size)} | {"img_size": int(size)}:
            height = width = size
        case {"input_size": [int(tall), int(wide)]} | {"img_size": [int(tall), int(wide)]}:
            height, width = tall, wide
    if image_size is not None:
        height = width = image_size
    if not (1 <= height <= LARGEST_IMAGE and 1 <= width <= LARGEST_IMAGE):
        raise InvalidModel(f"images of {height} x {width} pixels; give an image size from 1 to {LARGEST_IMAGE}")
    return channels, height, width


def _entry(ref: ArchitectureRef) -> Architecture:
    entry = ARCHITECTURES.get(ref.architecture)
    if entry is None:
        raise InvalidModel(f"there is no architecture {ref.architecture[:80]!r}; `GET /v1/architectures` lists them")
    return entry


def _prepared(ref: ArchitectureRef) -> tuple[str | None, Callable[..., nn.Module]]:
    """Why the network cannot take its arguments, or None, and what builds it from them."""
    # The two packages are imported only where they are needed: each takes seconds, more than all else about a small
    # network.
    entry = _entry(ref)
    if entry.family == "timm":
        from modelpress.engine.architectures import timm

        return timm.refusal(ref.arguments), timm.builder(ref.architecture.removeprefix(TIMM_PREFIX))
    if entry.family == "torchvision":
        from modelpress.engine.architectures import torchvision

        refusal = _bad_count("num_classes", ref.arguments.get("num_classes", 1)) or torchvision.refusal(
            ref.architecture, ref.arguments
        )
        return refusal, torchvision.builder(ref.architecture)
    return _refusal(entry, ref.arguments), BUILDERS[ref.architecture]


def _refusal(entry: Architecture, arguments: Mapping[str, JsonValue]) -> str | None:
    """Why one of our own architectures cannot take these arguments; None when it can."""
    for key, value in arguments.items():
        default = entry.arguments.get(key)
        if default is None:
            return f"it has no argument `{key}`; its arguments are {', '.join(entry.arguments)}"
        problem = _bad_factor(key, value) if isinstance(default, float) else _bad_count(key, value)
        if problem is not None:
            return problem
    return None


def _bad_count(key: str, value: JsonValue) -> str | None:
    # bool is an int to Python, and no count.
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if fine else f"`{key}` must be a whole number of at least 1, not {str(value)[:80]}"


def _bad_factor(key: str, value: JsonValue) -> str | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1_000
    return None if fine else f"`{key}` must be a number above 0, and at most 1,000, not {str(value)[:80]}"


def _given(ref: ArchitectureRef) -> str:
    return ", ".join(f"{key}={str(value)[:80]}" for key, value in ref.arguments.items()) or "its defaults"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
