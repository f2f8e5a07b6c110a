"""The steps of a recipe: what each method can be asked for.

The JSON Schema of these classes is the one source for validation, for `GET /v1/methods` and for the documentation.
How a step is carried out is in `modelpress.engine`, one folder per method.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from modelpress.spec.steps.distill import Distill
from modelpress.spec.steps.factorize import (
    AnyRank,
    ConvolutionScheme,
    Currency,
    Factorize,
    Rank,
    RankBudget,
    RankEnergy,
    RankEvbmf,
    RankNumber,
    RankPerLayer,
    RankRatio,
)
from modelpress.spec.steps.finetune import Finetune
from modelpress.spec.steps.prune import Cubic, Iterative, OneShot, Pattern, Prune, RigL
from modelpress.spec.steps.prune_channels import ChannelTarget, PruneChannels
from modelpress.spec.steps.quantize import Quantize
from modelpress.spec.steps.selection import LayerSelection
from modelpress.spec.student import Uploaded
from modelpress.spec.training import Training

__all__ = [
    "AnyRank",
    "AnyStep",
    "ChannelTarget",
    "ConvolutionScheme",
    "Cubic",
    "Currency",
    "Distill",
    "Factorize",
    "Finetune",
    "Iterative",
    "LayerSelection",
    "OneShot",
    "Pattern",
    "Prune",
    "PruneChannels",
    "Quantize",
    "Rank",
    "RankBudget",
    "RankEnergy",
    "RankEvbmf",
    "RankNumber",
    "RankPerLayer",
    "RankRatio",
    "RigL",
    "Step",
    "name_patterns",
    "step_training",
    "uploaded_students",
]

AnyStep = Prune | PruneChannels | Factorize | Distill | Finetune | Quantize
Step = Annotated[AnyStep, Field(discriminator="kind")]


def step_training(step: AnyStep) -> Training | None:
    """The training that a step carries, None when it has none (then it needs no data)."""
    return step.training


def name_patterns(step: AnyStep) -> list[str]:
    """The patterns of layers' names in a step, plain names too, each as often as it is there."""
    if isinstance(step, Distill | Finetune):
        return []
    patterns = [*step.layers.include, *step.layers.exclude]
    if isinstance(step, Prune):
        patterns += step.per_layer
    elif isinstance(step, Quantize):
        patterns += step.bits_per_layer
    return patterns


def uploaded_students(steps: Iterable[AnyStep]) -> dict[str, str]:
    """The models that students begin as: each id once, with the first place that names it (`steps.0.student.model`)."""
    places: dict[str, str] = {}
    for index, step in enumerate(steps):
        if isinstance(step, Distill) and isinstance(step.student, Uploaded):
            places.setdefault(step.student.model, f"steps.{index}.student.model")
    return places
