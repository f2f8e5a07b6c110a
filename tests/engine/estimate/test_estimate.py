"""Estimates against the files that the steps and the writer of the compact container make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modelpress.engine.estimate.channels import Channels
from modelpress.engine.estimate.estimate import Estimator, estimate
from modelpress.engine.estimate.plans import PLANS, Plan
from modelpress.engine.formats import compact
from modelpress.engine.formats.safetensors import stored_bytes
from modelpress.engine.inspect_layers import inspect_layers
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.step import StepResult
from modelpress.engine.steps import STEPS
from modelpress.spec.inspection import Estimate, ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.recipes import ready_recipe
from modelpress.spec.steps import Quantize
from tests.support.contexts import context
from tests.support.networks import describe, network, set_smallest_to_zero

# What the documentation promises.
_TOLERANCE = 0.1


def inspection_of(model: Network) -> ModelInspection:
    return ModelInspection(
        network=model.description.summary(),
        format="pt",
        parameters=0,
        macs=0,
        num_classes=10,
        fp32_bytes=stored_bytes(model.module.state_dict()),
        layers=inspect_layers(model.module, model.description.input_shape),
    )


def shallow() -> Network:
    """Few layers, most weights in one."""
    return network(describe("snn_1k"))


def residual() -> Network:
    """Many small layers with norms, and long-tailed weights whose scale differs from channel to channel."""
    result = network(describe("resnet20_cifar"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in weighted_layers(result.module).values():
            weight = layer.get_parameter("weight")
            scales = torch.randn(len(weight), *[1] * (weight.ndim - 1), generator=generator).mul(0.6).exp()
            tails = torch.randn(weight.shape, generator=generator).mul(0.5).exp()
            weight.copy_(0.05 * scales * tails * torch.randn(weight.shape, generator=generator))
    return result


def depthwise() -> Network:
    """Depthwise and 1 x 1 convolutions."""
    return network(describe("mobilenet_v3_small", image_size=32, num_classes=5))


NETWORKS: dict[str, Callable[[], Network]] = {"shallow": shallow, "residual": residual}


@pytest.fixture(scope="module", params=NETWORKS)
def estimated(request: pytest.FixtureRequest) -> tuple[Network, dict[str, Estimate]]:
    model = NETWORKS[request.param]()
    found = estimate(model, inspection_of(model))
    return model, {str(each.steps): each for each in found}


def carried_out(model: Network, plan: Plan) -> list[StepResult]:
    results: list[StepResult] = []
    current = model
    for step in Recipe.model_validate({"steps": plan}).steps:
        results.append(STEPS[step.kind](current, step, context(model)))
        current = results[-1].network
    return results


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "-".join(str(step["kind"]) for step in plan))
def test_the_file_is_as_large_as_estimated(
    plan: Plan, estimated: tuple[Network, dict[str, Estimate]], tmp_path: Path
) -> None:
    model, estimates = estimated
    found = estimates[str(plan)]
    results = carried_out(model, plan)
    compact.write(results[-1].network, tmp_path / "model.mpz")
    size = (tmp_path / "model.mpz").stat().st_size
    assert found.misfit is None
    assert found.stored_bytes == pytest.approx(size, rel=_TOLERANCE)
    assert found.share == pytest.approx(found.stored_bytes / stored_bytes(model.module.state_dict()), abs=1e-4)
    # And what stays as it is, with the reason, is what the job reports.
    told = {(name, left.reason) for left in found.left_alone for name in left.layers}
    assert told == {(skipped.name, skipped.reason) for result in results for skipped in result.skipped}


@pytest.mark.parametrize("plan", [PLANS[2], PLANS[4], PLANS[6], PLANS[8]], ids=lambda plan: str(plan[0]["kind"]))
def test_depthwise_networks_too(plan: Plan, tmp_path: Path) -> None:
    model = depthwise()
    found = Estimator(model, inspection_of(model)).of(plan)
    compact.write(carried_out(model, plan)[-1].network, tmp_path / "model.mpz")
    assert found.stored_bytes == pytest.approx((tmp_path / "model.mpz").stat().st_size, rel=_TOLERANCE)


@pytest.mark.parametrize("plan", [PLANS[0], [{"kind": "prune", "sparsity": 0.9}]], ids=["first", "prune"])
def test_a_network_that_is_quantized_already_is_estimated_so(plan: Plan, tmp_path: Path) -> None:
    model = residual()
    model = STEPS["quantize"](model, Quantize(bits=4), context(model)).network
    found = Estimator(model, inspection_of(model)).of(plan)
    compact.write(carried_out(model, plan)[-1].network, tmp_path / "model.mpz")
    assert found.stored_bytes == pytest.approx((tmp_path / "model.mpz").stat().st_size, rel=_TOLERANCE)


def test_the_network_stays_as_it_is() -> None:
    model = shallow()
    before = {name: tensor.clone() for name, tensor in model.module.state_dict().items()}
    estimate(model, inspection_of(model))
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (model.masks, model.grids, model.description.edits) == ({}, {}, ())


def test_what_is_zero_already_is_said() -> None:
    model = shallow()
    set_smallest_to_zero(model, 0.8)
    found = {str(each.steps): each for each in estimate(model, inspection_of(model))}
    half, most = found[str(PLANS[0])], found[str(PLANS[2])]
    assert half.stored_bytes is half.share is None
    assert half.misfit is not None
    assert "80% of its weights are zero already" in half.misfit
    assert most.misfit is None


def test_a_network_that_takes_long_to_trace_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channels, "most_rearrangements", 0)
    model = shallow()
    found = Estimator(model, inspection_of(model)).of(PLANS[3])
    assert found.stored_bytes is None
    assert found.misfit is not None
    assert "rearranged 1 times" in found.misfit  # the flattening before the first linear layer


def test_what_does_not_fit_the_layers_is_said() -> None:
    model = shallow()
    seen = inspection_of(model)
    whole = [layer.model_copy(update={"full_rank": None, "untreated": "it is glued"}) for layer in seen.layers]
    found = Estimator(model, seen.model_copy(update={"layers": tuple(whole)})).of(PLANS[5])
    assert found.stored_bytes is None
    assert found.misfit


@pytest.mark.parametrize("name", ["no-data", "gentle"])
def test_ready_recipes_are_estimated_without_their_trainings(name: str) -> None:
    steps = ready_recipe(name).recipe["steps"]
    assert isinstance(steps, list)
    trained = ("training", "schedule")
    assert tuple({key: value for key, value in step.items() if key not in trained} for step in steps) in PLANS
