"""The step `finetune`: the network is trained as it is."""

from __future__ import annotations

import copy

from modelpress.engine.network import Network
from modelpress.engine.recovery import recover
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.steps import Finetune


def finetune(network: Network, step: Finetune, context: StepContext) -> StepResult:
    """Train the network; weights pruned before stay zero. Raises IncompatibleSpec without data, and Diverged."""
    result = copy.deepcopy(network)
    return StepResult(result, training=recover(result, step.training, context))
