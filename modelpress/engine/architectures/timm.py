"""The networks of timm, an optional extra, by timm's own names, without weights and without a look at the network.

Only timm's list of names is asked for: a name that stands for a file or for the Hugging Face Hub is no name of an
architecture here. Of the arguments, those are taken that timm documents for every network and that are plain values.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from torch import nn

from modelpress.spec.architecture import TIMM_ARGUMENTS
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import Preprocessing

# From a larger one follow tables of relative positions that grow with the fourth power of it.
LARGEST_IMAGE = 1024
_POOLS = ("avg", "max", "avgmax", "catavgmax", "fast", "token", "map")


@dataclass(frozen=True)
class Facts:
    """What timm says of the weights that it would give a network by default."""

    image_size: tuple[int, int]  # height, width
    num_classes: int
    preprocessing: Preprocessing | None


def names() -> list[str]:
    """Names of the networks, in timm's order. Raises InvalidModel where timm is not installed."""
    listed: list[str] = _timm().list_models()
    return listed


def facts(name: str) -> Facts:
    """The facts of a network of this name. Raises InvalidModel where timm, or this timm's network, is not there."""
    config = _timm().get_pretrained_cfg(name, allow_unregistered=False) if _is_there(name) else None
    if config is None:
        raise _unknown(name)
    _, height, width = config.input_size
    mean, std = tuple(config.mean or ()), tuple(config.std or ())
    known = len(mean) == len(std) == 3
    return Facts((height, width), config.num_classes, Preprocessing(mean=mean, std=std) if known else None)


def builder(name: str) -> Callable[..., nn.Module]:
    """The function that takes keyword arguments alone and gives the network of this name without weights.

    Raises InvalidModel where timm, or this timm's network, is not there.
    """
    if not _is_there(name):
        raise _unknown(name)

    def bare(**arguments: JsonValue) -> nn.Module:
        module: nn.Module = _timm().create_model(name, pretrained=False, **arguments)
        return module

    return bare


def refusal(arguments: Mapping[str, JsonValue]) -> str | None:
    """Why a network cannot take these arguments, judged by their names and kinds; None when it may."""
    for key, value in arguments.items():
        if key not in TIMM_ARGUMENTS:
            return f"it takes no argument `{key}`; of timm's, {', '.join(TIMM_ARGUMENTS)} are taken"
        problem = _CHECKS[key](value)
        if problem is not None:
            return f"`{key}` must be {problem}, not {str(value)[:80]}"
    return None


def _timm() -> Any:
    # Declares the operators that timm's own import of torchvision needs.
    importlib.import_module("modelpress.engine.architectures.torchvision")
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise InvalidModel(
            "networks of timm need the package timm, which is not installed where models are read: "
            'install the extra, `pip install "modelpress[timm]"`'
        ) from error


def _is_there(name: str) -> bool:
    return bool(_timm().is_model(name))


def _unknown(name: str) -> InvalidModel:
    return InvalidModel(
        f"the timm that is installed where models are read, {_timm().__version__}, has no network {name[:80]!r}; "
        "install the version that ModelPress names, or name another network"
    )


def _count(value: JsonValue) -> str | None:
    # bool is an int to Python, and no count.
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if fine else "a whole number of at least 1"


def _share(value: JsonValue) -> str | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    return None if fine else "a number from 0 to below 1"


def _size(value: JsonValue) -> str | None:
    sides = value if isinstance(value, list) and len(value) == 2 else [value]
    fine = all(_count(side) is None and isinstance(side, int) and side <= LARGEST_IMAGE for side in sides)
    return None if fine else f"one whole number, or height and width, of at most {LARGEST_IMAGE}"


def _pool(value: JsonValue) -> str | None:
    return None if value in _POOLS else f"one of {', '.join(_POOLS)}"


_CHECKS: dict[str, Callable[[JsonValue], str | None]] = {
    "num_classes": _count,
    "in_chans": _count,
    "drop_rate": _share,
    "drop_path_rate": _share,
    "global_pool": _pool,
    "img_size": _size,
}
