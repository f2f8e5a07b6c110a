"""What steps would make of a network's file, estimated before any job is run."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.engine.estimate.channels import Channels
from modelpress.engine.estimate.outlook import Outlook
from modelpress.engine.estimate.plans import PLANS, Plan
from modelpress.engine.estimate.weights import factorize, prune, quantize
from modelpress.engine.network import Network
from modelpress.spec.check import check
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.inspection import Estimate, LeftAlone, ModelInspection
from modelpress.spec.job import ArtifactKind, Recipe
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Factorize, Prune, PruneChannels, Quantize, Step


def estimate(network: Network, inspection: ModelInspection) -> tuple[Estimate, ...]:
    """What each of the plans would make of a network, which is left as it is."""
    estimator = Estimator(network, inspection)
    return tuple(estimator.of(plan) for plan in PLANS)


class Estimator:
    """Estimates for one network. What steps in a row begin with is worked out once."""

    def __init__(self, network: Network, inspection: ModelInspection) -> None:
        self._network, self._inspection = network, inspection
        self._channels = Channels(network)
        self._known = {"": Outlook.of(network)}

    def of(self, plan: Plan) -> Estimate:
        """Of the file behind these steps, which are of the kinds that `PLANS` has."""
        recipe = Recipe.model_validate({"steps": plan, "artifacts": [ArtifactKind.COMPACT]})
        misfits = [misfit.message for misfit in check(recipe, self._inspection, None)]
        if misfits:
            return _misfit(plan, "; ".join(misfits))
        try:
            outlook = self._after(recipe.steps)
        except IncompatibleSpec as error:
            return _misfit(plan, str(error))
        size = outlook.stored_bytes
        return Estimate(
            steps=plan,
            stored_bytes=size,
            share=round(size / self._inspection.fp32_bytes, 4),
            left_alone=_by_reason(outlook.left_alone),
        )

    def _after(self, steps: Sequence[Step]) -> Outlook:
        key = "".join(step.model_dump_json() for step in steps)
        if key not in self._known:
            self._known[key] = self._step(self._after(steps[:-1]), steps[-1])
        return self._known[key]

    def _step(self, outlook: Outlook, step: Step) -> Outlook:
        match step:
            case Prune():
                return prune(outlook, step)
            case PruneChannels():
                return self._channels.without(outlook, step)
            case Factorize():
                return factorize(outlook, step, self._network, self._inspection.layers)
            case Quantize():
                return quantize(outlook, step, self._network)
        raise TypeError(f"a step {step.kind} is not estimated")


def _misfit(plan: Plan, reason: str) -> Estimate:
    return Estimate(steps=plan, stored_bytes=None, share=None, misfit=reason)


def _by_reason(layers: Sequence[SkippedLayer]) -> tuple[LeftAlone, ...]:
    found: dict[str, list[str]] = {}
    for layer in layers:
        found.setdefault(layer.reason, []).append(layer.name)
    return tuple(LeftAlone(reason=reason, layers=tuple(names)) for reason, names in found.items())
