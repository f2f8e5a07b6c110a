"""Students: the network that a step `distill` trains: named, uploaded, or made of the original."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.config import Config
from modelpress.spec.graph import Graph, GraphOutline


class Thinner(Config):
    """The original's architecture with all its channel counts multiplied."""

    kind: Literal["thinner"] = "thinner"
    width: float = Field(
        gt=0, lt=1, description="What the original's `width` is multiplied by; for architectures that take `width`."
    )


class Shallower(Config):
    """A shallower one of the original's family (VGG, ResNet, DenseNet), with the original's arguments."""

    kind: Literal["shallower"] = "shallower"
    depth: float = Field(
        gt=0, lt=1, description="Depth over the original's; the deepest of the family that is not above it is taken."
    )


class Uploaded(Config):
    """Another model of the team's, its architecture and its weights; what it learned before is where it begins."""

    kind: Literal["uploaded"] = "uploaded"
    model: str = Field(
        min_length=1,
        max_length=200,
        description="Id of an uploaded model with the original's outputs and input; for `modelpress compress`, the "
        "name that `--student` gives a file.",
        examples=["mdl_0199f3c0a1b2c3d4"],
    )


class Current(Config):
    """The network as the steps before have made it; its zeros and quantized weights are held."""

    kind: Literal["current"] = "current"


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "named" if kind is None else str(kind)


Student = Annotated[
    Annotated[ArchitectureRef, Tag("named")]
    | Annotated[Thinner, Tag("thinner")]
    | Annotated[Shallower, Tag("shallower")]
    | Annotated[Uploaded, Tag("uploaded")]
    | Annotated[Current, Tag("current")],
    Discriminator(_tag),
]

# Families whose members differ in nothing but their depth: a pattern of the name around the depth.
_FAMILIES = (
    (r"vgg(\d+)(_bn)?(_cifar)?", (11, 13, 16, 19)),
    (r"resnet(\d+)(_cifar)", (20, 32, 44, 56, 110)),
    (r"resnet(18|34)", (18, 34)),
    (r"resnet(50|101|152)", (50, 101, 152)),
    (r"densenet(121|169|201)", (121, 169, 201)),
)


def derived(original: ArchitectureRef | Graph | GraphOutline, student: Thinner | Shallower) -> ArchitectureRef:
    """The architecture that a thinner or shallower student of `original` has.

    Raises ValueError with the reason where there is none.
    """
    if not isinstance(original, ArchitectureRef):
        raise ValueError("the original came as a graph, which has no thinner or shallower form; name an architecture")
    name = original.architecture
    if isinstance(student, Thinner):
        entry = ARCHITECTURES.get(name)
        if entry is None or "width" not in entry.arguments:
            raise ValueError(f"{name} takes no `width`, so it has no thinner form; name an architecture instead")
        width = original.arguments.get("width", 1.0)
        if not isinstance(width, int | float):
            raise ValueError(f"the original's `width` is {str(width)[:80]}, no number; name an architecture instead")
        return original.model_copy(update={"arguments": {**original.arguments, "width": width * student.width}})
    for pattern, depths in _FAMILIES:
        found = re.fullmatch(pattern, name)
        if found is None:
            continue
        most = int(found[1]) * student.depth
        fitting = [depth for depth in depths if depth <= most]
        if not fitting:
            raise ValueError(
                f"the shallowest of the family of {name} has {depths[0]} layers, more than {most:.3g}; raise `depth`"
            )
        shallower = f"{name[: found.start(1)]}{max(fitting)}{name[found.end(1) :]}"
        return original.model_copy(update={"architecture": shallower})
    raise ValueError(f"{name} has no shallower form; name an architecture instead")
