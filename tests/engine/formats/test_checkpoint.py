"""State dicts in what training scripts save: found by the network's names, whatever is put around them."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from modelpress.engine.formats.checkpoint import Weights, choose, state_dicts
from modelpress.engine.formats.state_dict import read_weights
from modelpress.spec.failure import InvalidModel


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(features=nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), head=nn.Linear(4, 2))
    )


NETWORK = small()
STATE = dict(NETWORK.state_dict())


def prefixed(prefix: str, state: Mapping[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def chosen(content: Any) -> Weights:
    return choose(state_dicts(content), STATE)


def assert_taken(weights: Weights, state: Mapping[str, Tensor] = STATE) -> None:
    assert set(weights.tensors) == set(state)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in state.items())


OPTIMIZER = torch.optim.SGD(NETWORK.parameters(), 0.1, momentum=0.9).state_dict()

CHECKPOINTS: dict[str, Any] = {
    "bare": STATE,
    "pytorch/examples imagenet": {"epoch": 3, "arch": "x", "state_dict": prefixed("module."), "optimizer": OPTIMIZER},
    "pytorch tutorial": {"epoch": 3, "model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER, "loss": 0.1},
    "torchvision references": {"model": STATE, "optimizer": OPTIMIZER, "scaler": {"scale": 65536.0}, "epoch": 3},
    "pytorch-cifar": {"net": prefixed("module."), "acc": 95.1, "epoch": 3},
    "Lightning": {"state_dict": prefixed("model."), "pytorch-lightning_version": "2.5", "callbacks": {}, "loops": {}},
    "Lightning around torch.compile": {"state_dict": prefixed("net._orig_mod."), "epoch": 3},
    "DDP around torch.compile": prefixed("module._orig_mod."),
    "DeepSpeed": {"module": STATE, "ds_version": "0.1", "optimizer": None},
    "nested twice": {"checkpoint": {"model": {"state_dict": STATE}}},
    "another key": {"best": STATE, "epoch": 3},
    "backbone": {"state_dict": prefixed("backbone.")},
    "DataParallel inside": {
        "state_dict": {name.replace("features.", "features.module."): tensor for name, tensor in STATE.items()}
    },
    "before PyTorch 0.4.1": {name: tensor for name, tensor in STATE.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("content", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_the_networks_weights_are_found(content: Any) -> None:
    weights = chosen(content)
    assert_taken(weights)
    assert weights.notes == ()


def test_what_wrappers_of_torch_really_save_is_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what torch.compile imports
        compiled = torch.compile(NETWORK)  # nothing is compiled before it is called
    assert isinstance(compiled, nn.Module)
    assert_taken(chosen(compiled.state_dict()))
    assert_taken(chosen(nn.DataParallel(NETWORK).state_dict()))


def averaged() -> tuple[AveragedModel, dict[str, Tensor]]:
    """An averaged copy after one update, and the weights it should have: 0.9 of the old, 0.1 of the new."""
    model = copy.deepcopy(NETWORK)
    copied = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]  # torch's
    copied.update_parameters(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    copied.update_parameters(model)
    wanted = {name: STATE[name] + (0.1 if name in dict(NETWORK.named_parameters()) else 0) for name in STATE}
    return copied, wanted


def test_an_averaged_model_alone_is_taken_and_said_to_be_one() -> None:
    copied, wanted = averaged()
    for content in (copied.state_dict(), {"model_ema": copied.state_dict(), "epoch": 3}):
        weights = chosen(content)
        assert set(weights.tensors) == set(wanted)
        for name, tensor in wanted.items():
            assert torch.allclose(weights.tensors[name], tensor), name
        (note,) = weights.notes
        assert "an averaged (EMA) copy, as the file has no others" in note


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema", "params_ema", "ema_model"])
def test_the_plain_weights_are_preferred_to_the_averaged_ones(key: str) -> None:
    copied, _ = averaged()
    for ema in (copied.state_dict(), copied.module.state_dict()):
        for content in (
            {"model": STATE, key: ema},
            {key: ema, "model": STATE},
            {key: {"state_dict": ema}, "net": STATE},
        ):
            weights = chosen(content)
            assert_taken(weights)
            (note,) = weights.notes
            assert "the averaged (EMA) copy under" in note
            assert key in note


def test_an_averaged_copy_inside_the_state_dict_is_left() -> None:
    ema = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    weights = chosen({"state_dict": prefixed("model.") | prefixed("ema_model.", ema)})
    assert_taken(weights)
    assert weights.notes == (
        "the weights under `state_dict.model` were taken; the averaged (EMA) copy under `state_dict.ema_model` beside "
        "them can be uploaded alone instead",
    )


def test_what_is_beside_the_network_is_left_and_named() -> None:
    weights = chosen({"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(2)}})
    assert_taken(weights)
    assert weights.notes == ("tensors that are not the network's were left aside: criterion.weight",)


def test_what_is_within_the_network_is_not_left() -> None:
    """Strict loading names it: a head that the architecture has not is no thing to pass over."""
    weights = chosen({"state_dict": prefixed("model.") | {"model.aux.weight": torch.ones(2)}})
    assert set(weights.tensors) == {*STATE, "aux.weight"}


def test_two_networks_are_refused_unless_one_has_a_usual_key() -> None:
    other = {name: tensor * 2 for name, tensor in STATE.items()}
    with pytest.raises(InvalidModel, match="more than once, under `student`, `teacher`; save the state dict"):
        chosen({"student": STATE, "teacher": other})
    with pytest.raises(InvalidModel, match="`student`, `teacher`"):
        chosen(prefixed("student.") | prefixed("teacher.", other))
    weights = chosen({"best_model": other, "model": STATE})
    assert_taken(weights)
    assert weights.notes == (
        "the weights under `model` were taken; the weights under `best_model` beside them can be uploaded alone "
        "instead",
    )


def test_what_comes_nearest_is_given_where_nothing_fits() -> None:
    less = {name: tensor for name, tensor in STATE.items() if name != "head.bias"}
    weights = chosen({"optimizer": {"momentum": torch.ones(1)}, "state_dict": prefixed("model.", less)})
    assert set(weights.tensors) == set(less)


def test_nothing_is_found_below_many_keys() -> None:
    assert state_dicts({"a": {"b": {"c": STATE}}}) == {"a.b.c": STATE}
    assert state_dicts({"a": {"b": {"c": {"d": STATE}}}}) == {}


part = st.sampled_from(["module", "_orig_mod", "model", "net", "backbone"])


@given(
    keys=st.lists(st.sampled_from(["state_dict", "model", "checkpoint", "x"]), max_size=3),
    parts=st.lists(part, max_size=4),
)
def test_any_nesting_under_any_prefix_is_read(keys: list[str], parts: list[str]) -> None:
    content: Any = prefixed("".join(f"{name}." for name in parts))
    for key in reversed(keys):
        content = {"epoch": 1, key: content}
    assert_taken(chosen(content))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_come_as_fp32(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    torch.save({"model": prefixed("module.", state), "optimizer": OPTIMIZER}, tmp_path / "model.pt")
    weights = read_weights(tmp_path / "model.pt", "pt", STATE)
    assert weights.tensors["head.weight"].dtype == torch.float32
    assert torch.equal(weights.tensors["head.weight"], state["head.weight"].to(torch.float32))


def test_a_name_of_a_million_parts_is_no_work() -> None:
    name = "w." * 1_000_000
    assert set(chosen({name: torch.ones(1), "head.bias": torch.ones(2)}).tensors) == {name, "head.bias"}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}], ids=["bare", "model"])
def test_the_order_of_the_names_does_not_matter(wrap: Callable[[dict[str, Tensor]], Any]) -> None:
    assert_taken(chosen(wrap(dict(reversed(prefixed("module.").items())))))


def test_dicts_that_hold_each_other_are_looked_into_once():
    """A few kilobytes that would be billions of places; a dict of weights in two places is one."""
    inner: dict[str, object] = {"weights": STATE}
    for _ in range(2):
        inner = dict.fromkeys((str(number) for number in range(3000)), inner)
    assert state_dicts(inner) == {"0.0.weights": STATE}
    assert state_dicts({"a": STATE, "b": STATE}) == {"a": STATE}
    assert state_dicts({"ema": STATE, "x": {"y": {"z": STATE}}, "last": STATE, "model": STATE}) == {"model": STATE}
    assert state_dicts({"ema": STATE, "last": STATE}) == {"last": STATE}


def test_what_is_held_twice_is_taken_from_where_it_is_the_model() -> None:
    """A script whose averaged copy is the model itself, as `torch.save` keeps it."""
    held = {"weights": STATE}
    other = {name: tensor * 2 for name, tensor in STATE.items()}
    for content in ({"ema": held, "model": held}, {"ema": held, "best": {"weights": other}, "model": held}):
        weights = chosen(content)
        assert_taken(weights)
        assert not any("averaged" in note for note in weights.notes)
