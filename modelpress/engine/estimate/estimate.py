"""What steps would make of a network's file, estimated before any job is run."""

from __future__ import annotations

from pydantic import JsonValue

from modelpress.engine.estimate.channels import Channels
from modelpress.engine.estimate.outlook import Outlook
from modelpress.engine.estimate.plans import PLANS
from modelpress.engine.estimate.weights import factorize, prune, quantize
from modelpress.engine.network import Network
from modelpress.spec.check import check
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.inspection import Estimate, LeftAlone, ModelInspection
from modelpress.spec.job import ArtifactKind, Recipe
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Factorize, Prune, PruneChannels, Quantize

Plan = tuple[dict[str, JsonValue], ...]


def estimate(network: Network, inspection: ModelInspection) -> tuple[Estimate, ...]:
    """What each of the plans would make of a network. The network is left as it is."""
    before, channels = Outlook.of(network), Channels(network)
    return tuple(_estimate(plan, before, network, channels, inspection) for plan in PLANS)


def _estimate(
    plan: Plan, before: Outlook, network: Network, channels: Channels, inspection: ModelInspection
) -> Estimate:
    recipe = Recipe.model_validate({"steps": plan, "artifacts": [ArtifactKind.COMPACT]})
    if misfits := check(recipe, inspection, None):
        return _misfit(plan, "; ".join(misfit.message for misfit in misfits))
    outlook = before
    try:
        for step in recipe.steps:
            match step:
                case Prune():
                    outlook = prune(outlook, step)
                case Quantize():
                    outlook = quantize(outlook, step, network)
                case Factorize():
                    outlook = factorize(outlook, step, network, inspection.layers)
                case PruneChannels():
                    outlook = channels.without(outlook, step)
                case _:
                    raise TypeError(f"a step {step.kind} is not estimated")
    except IncompatibleSpec as error:
        return _misfit(plan, str(error))
    size = outlook.stored_bytes
    return Estimate(
        steps=plan,
        stored_bytes=size,
        share=round(size / inspection.fp32_bytes, 4),
        left_alone=_by_reason(outlook.left_alone),
    )


def _misfit(plan: Plan, reason: str) -> Estimate:
    return Estimate(steps=plan, stored_bytes=None, share=None, misfit=reason)


def _by_reason(layers: tuple[SkippedLayer, ...]) -> tuple[LeftAlone, ...]:
    found: dict[str, list[str]] = {}
    for layer in layers:
        found.setdefault(layer.reason, []).append(layer.name)
    return tuple(LeftAlone(reason=reason, layers=tuple(names)) for reason, names in found.items())
