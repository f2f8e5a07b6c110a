"""What makes a weight important: the criteria of the step `prune`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.network import Network
from modelpress.engine.prune.gradients import Gradients
from modelpress.engine.prune.magnitude import magnitudes
from modelpress.engine.prune.movement import Movement
from modelpress.engine.recovery import preprocessing_of
from modelpress.engine.step import StepContext
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Prune

# Scores of the weights as they are now; asked for at each update of the masks.
Importance = Callable[[Mapping[str, nn.Parameter]], dict[str, Tensor]]


def importance(network: Network, step: Prune, context: StepContext) -> Importance:
    """The scores that a step asks for. Raises IncompatibleSpec where they need data and there is none."""
    match step.criterion:
        case "magnitude":
            return magnitudes
        case "random":
            return lambda weights: draws(weights, context.seed)
        case "movement":
            return Movement()
        case "taylor":
            gradients = _gradients(network, step, context)
            return lambda weights: first_order(weights, gradients.of(weights))


def draws(weights: Mapping[str, nn.Parameter], seed: int) -> dict[str, Tensor]:
    """Uniform draws, the same for each call with one seed: a weight keeps its score through a whole training."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(weight.shape, generator=generator).to(weight.device) for name, weight in weights.items()}


def first_order(weights: Mapping[str, nn.Parameter], gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """|w g|: what the loss changes by without w, to first order (Molchanov et al. 2019, equations 2 and 3).

    Its square, which the paper uses, ranks single weights alike; so does SNIP (Lee et al. 2019, equation 5), which
    asks it of an untrained network.
    """
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def _gradients(network: Network, step: Prune, context: StepContext) -> Gradients:
    if context.data is None:
        raise IncompatibleSpec(
            f"the criterion `{step.criterion}` takes gradients, which needs a data set; give `dataset`, or use "
            "`magnitude`"
        )
    preprocessing = preprocessing_of(network, context)
    return Gradients(network.module, context.data, preprocessing, count=step.calibration_images, seed=context.seed)
