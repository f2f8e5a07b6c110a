"""The classification models of torchvision, by their own names and with their own arguments.

The one place that imports torchvision: its wheels are built against CUDA torch, and beside a CPU-only torch their
operators cannot be loaded. The import then fails for want of the schemas of two of them, so they are declared first.
No classification model calls them.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import nn

from modelpress.spec.network import Preprocessing

_declared: list[torch.library.Library] = []  # a Library's declarations live as long as it does


def _declare_operators() -> None:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return  # not installed: the import below says so
    for path in Path(spec.submodule_search_locations[0]).glob("_C.*"):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call] # torch leaves it untyped
        except OSError:
            continue  # built against another torch
        return
    # torch leaves these two functions untyped.
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    _declared.append(library)


_declare_operators()

from torchvision import models  # noqa: E402 - must come after the declarations

_PUBLISHED_CLASSES = 1000  # of ImageNet

# Auxiliary heads give extra outputs in training and are no use afterwards. Without init_weights, torchvision warns.
_DEFAULTS: dict[str, dict[str, JsonValue]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
# What a model's function passes on to its settings rather than to its class.
_SETTINGS: dict[str, tuple[str, ...]] = {
    "mobilenet_v3_large": ("width_mult", "reduced_tail", "dilated"),
    "mobilenet_v3_small": ("width_mult", "reduced_tail", "dilated"),
}
# Arguments that a class demands and its functions settle where they are not given. The others that a class demands
# (depth, widths) are what makes the name, and cannot be given.
_SETTLED = ("image_size", "input_size", "dropout")
# Arguments that a class has a default for, and that the functions by name fix all the same.
_FIXED = ("growth_rate", "block_config", "num_init_features", "version", "last_channel")
# Words in the annotation of an argument that takes Python code.
_CODE = (
    "Callable",
    "Module",
    "ConvStemConfig",
    "CNBlockConfig",
    "MBConvConfig",
    "InvertedResidualConfig",
    "BlockParams",
)


def names() -> list[str]:
    """Names of the classification models, in alphabetical order."""
    listed: list[str] = models.list_models(module=models)
    return listed


def builder(name: str) -> Callable[..., nn.Module]:
    """The function of this name, which takes keyword arguments alone and gives the model without weights."""
    build = models.get_model_builder(name)
    defaults = _DEFAULTS.get(name, {})

    def bare(**arguments: JsonValue) -> nn.Module:
        module: nn.Module = build(weights=None, progress=False, **{**defaults, **arguments})
        return module

    return bare


def published_preprocessing(name: str, arguments: Mapping[str, JsonValue]) -> Preprocessing | None:
    """How pixels are normalised for the weights that torchvision publishes of a model of 1,000 classes.

    None where the arguments name another number of classes: such weights are the caller's own. Of the transforms of
    its weights only what all of a model's weights agree on is taken, which is mean and standard deviation: which of
    them a file holds is not known, and they were measured at different sizes.
    """
    if arguments.get("num_classes", _PUBLISHED_CLASSES) != _PUBLISHED_CLASSES:
        return None
    # Some weights, of vgg16, are of the features alone, for other uses.
    transforms = [weights.transforms() for weights in models.get_model_weights(name) if weights.meta["categories"]]
    stated = {(tuple(found.mean), tuple(found.std)) for found in transforms}
    if len(stated) != 1:
        return None
    ((mean, std),) = stated
    return Preprocessing(mean=mean, std=std)


def refusal(name: str, arguments: Mapping[str, JsonValue]) -> str | None:
    """Why the model of this name cannot take these arguments, judged by their names and kinds; None when it may."""
    plain, code = _arguments(name)
    for key, value in arguments.items():
        if key in ("weights", "progress"):
            return f"`{key}` cannot be given, as the weights are those of the file; leave it out"
        if key in code:
            return f"`{key}` takes Python code, which cannot be given; leave it out"
        if key not in plain:
            return f"it has no argument `{key}`; its arguments are {', '.join(plain)}"
        if not _is_plain(value):
            return f"`{key}` must be a number, a string, true, false, null or a list of them"
    return None


def _arguments(name: str) -> tuple[list[str], list[str]]:
    """Arguments that plain values can be given for, and those that take code."""
    signature = inspect.signature(models.get_model_builder(name), eval_str=True)
    # The functions by name pass their keyword arguments on to the model's class, which they say they return.
    model: type[nn.Module] = signature.return_annotation
    plain, code = list(_SETTINGS.get(name, ())), []
    for key, parameter in inspect.signature(model).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD or key in _FIXED:
            continue
        if any(word in str(parameter.annotation) for word in _CODE):
            code.append(key)
        elif parameter.default is not inspect.Parameter.empty or key in _SETTLED:
            plain.append(key)
    return plain, code


def _is_plain(value: JsonValue) -> bool:
    if isinstance(value, list):
        return all(_is_plain(item) for item in value)
    return not isinstance(value, dict)
