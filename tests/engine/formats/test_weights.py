"""What is said of weights that do not match."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.formats.weights import load_weights
from modelpress.spec.failure import InvalidModel
from tests.support.networks import describe, network


def module() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def refusal(state: dict[str, Tensor], target: nn.Module | None = None) -> str:
    target = target or module()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(InvalidModel) as raised:
        load_weights(target, state, "architecture 'two'")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())
    return raised.value.message


def test_matching_weights_are_copied() -> None:
    source, target = module(), module()
    load_weights(target, source.state_dict(), "it")
    images = torch.randn(5, 4)
    assert torch.equal(source(images), target(images))


def test_missing_and_unexpected_keys_are_named() -> None:
    state = dict(module().state_dict())
    state["2.gain"] = state.pop("2.bias")
    message = refusal(state)
    assert "do not match architecture 'two'" in message
    assert "1 key missing: 2.bias. 1 key unexpected: 2.gain." in message
    assert "Name the architecture" in message


def test_both_shapes_are_given() -> None:
    state = dict(module().state_dict())
    state["0.weight"] = torch.zeros(3, 7)
    assert "1 shape differ: 0.weight (file has (3, 7), it takes (3, 4))" in refusal(state)


def test_a_dozen_is_named_and_the_rest_counted() -> None:
    state = {f"k{index}": torch.zeros(1) for index in range(30)}
    message = refusal(state)
    assert "30 keys unexpected: k0, k1," in message
    assert "k11 and 18 more" in message
    assert "k12" not in message


def test_another_number_of_classes_is_recognised() -> None:
    trained = network(describe("resnet20_cifar", num_classes=100)).module.state_dict()
    message = refusal(trained, network(describe("resnet20_cifar")).module)
    assert "linear.weight (file has (100, 64), it takes (10, 64))" in message
    assert "the file has 100 outputs; give the argument num_classes=100" in message


def test_auxiliary_heads_are_recognised() -> None:
    trained = network(describe("googlenet", aux_logits=True, num_classes=5)).module.state_dict()
    message = refusal(trained, network(describe("googlenet", num_classes=5)).module)
    assert "aux_logits=true" in message


def test_names_of_a_transformers_model_are_recognised() -> None:
    message = refusal({"vit.encoder.layer.0.attention.attention.query.weight": torch.zeros(1)})
    assert "Hugging Face transformers model" in message
    assert "torch.export.save" in message


def test_modules_that_ask_for_the_version_of_their_state_take_one_that_tells_none() -> None:
    named = network(describe("mnasnet0_5", num_classes=10))
    state = {name: tensor.clone() for name, tensor in named.module.state_dict().items()}
    state["classifier.1.bias"] += 1
    load_weights(named.module, state, "it")
    assert torch.equal(named.module.state_dict()["classifier.1.bias"], state["classifier.1.bias"])
