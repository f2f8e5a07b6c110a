"""The steps there are: each kind of the spec with the function that carries it out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelpress.engine.distill.step import distill
from modelpress.engine.factorize.step import factorize
from modelpress.engine.finetune.step import finetune
from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.quantize.step import quantize
from modelpress.engine.step import StepContext, StepResult

__all__ = ["STEPS", "StepContext", "StepResult"]

# Each takes (network, step, context), its `step` of the spec's class of that kind, and returns a new network.
STEPS: dict[str, Callable[[Network, Any, StepContext], StepResult]] = {
    "prune": prune,
    "prune_channels": prune_channels,
    "factorize": factorize,
    "distill": distill,
    "finetune": finetune,
    "quantize": quantize,
}
