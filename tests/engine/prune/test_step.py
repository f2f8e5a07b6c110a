from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.utils.prune import l1_unstructured

from modelpress.engine import journal
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Cubic, LayerSelection, Prune
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import digits, noise
from tests.support.tiny import tiny_network

LAYERS = ("0", "3", "7", "9")


def zeros_of(network: Network) -> dict[str, int]:
    return {name: int((network.module.get_parameter(f"{name}.weight") == 0).sum()) for name in LAYERS}


def sizes_of(network: Network) -> dict[str, int]:
    return {name: network.module.get_parameter(f"{name}.weight").numel() for name in LAYERS}


@pytest.mark.parametrize("sparsity", [0.1, 0.333, 0.5, 0.875, 0.999])
def test_one_shot_over_all_layers_meets_the_sparsity_to_the_weight(sparsity: float):
    network = tiny_network()
    before = copy.deepcopy(network.module.state_dict())
    result = prune(network, Prune(sparsity=sparsity), context(network))
    total = sum(sizes_of(network).values())
    assert sum(zeros_of(result.network).values()) == round(sparsity * total)
    # The smallest went: independent of our own selection, no zero's old magnitude is above a survivor's.
    old = torch.cat([before[f"{name}.weight"].abs().flatten() for name in LAYERS])
    new = torch.cat([result.network.module.get_parameter(f"{name}.weight").flatten() for name in LAYERS])
    assert old[new == 0].max() <= old[new != 0].min()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    assert result.training is None
    assert network.masks == {}


@pytest.mark.parametrize("schedule", [{}, {"schedule": Cubic(frequency=1)}])
def test_by_layer_each_meets_it(schedule: dict[str, Cubic]):
    network = tiny_network(classes=3)
    step = Prune(sparsity=0.6, scope="layer", training=Recovery(epochs=2, batch_size=8), **schedule)
    result = prune(network, step, context(network, noise()))
    assert zeros_of(result.network) == {name: round(0.6 * size) for name, size in sizes_of(network).items()}
    assert [(change.name, change.parameters_after - change.nonzero_after) for change in result.layers] == list(
        zeros_of(result.network).items()
    )
    assert all(change.parameters_before == change.parameters_after for change in result.layers)


def test_chosen_layers_alone():
    network = tiny_network()
    step = Prune(sparsity=0.5, layers=LayerSelection(include=("*",), exclude=("0", "9")))
    result = prune(network, step, context(network))
    found, sizes = zeros_of(result.network), sizes_of(network)
    assert found["0"] == found["9"] == 0
    assert found["3"] + found["7"] == round(0.5 * (sizes["3"] + sizes["7"]))
    assert set(result.network.masks) == {"3.weight", "7.weight"}
    assert [change.name for change in result.layers] == ["3", "7"]


def test_gradual_pruning_of_real_digits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    data = digits()
    network = tiny_network(data.statistics)
    seen: list[TrainingProgress] = []
    step = Prune(
        sparsity=0.8,
        schedule=Cubic(begin=0.2, end=0.8, frequency=5),
        training=Recovery(epochs=2, learning_rate=0.05, batch_size=64, gradient_clip=5.0, weight_decay=1e-3),
    )
    result = prune(network, step, context(network, data, on_progress=seen.append))
    assert sum(zeros_of(result.network).values()) == round(0.8 * sum(sizes_of(network).values()))
    sparsities = [progress.metrics["sparsity"] for progress in seen]
    assert sparsities == sorted(sparsities)
    assert sparsities[0] == 0.0
    assert sparsities[-1] == pytest.approx(0.8, abs=1e-4)
    assert len(set(sparsities)) > 4
    assert result.training is not None
    for name, mask in result.network.masks.items():
        assert torch.equal(result.network.module.get_parameter(name) != 0, mask)


def test_pruning_again_only_adds():
    network = tiny_network()
    once = prune(network, Prune(sparsity=0.3, scope="layer"), context(network)).network
    twice = prune(once, Prune(sparsity=0.7), context(network)).network
    assert all(bool((mask | ~twice.masks[name]).all()) for name, mask in once.masks.items())
    assert sum(zeros_of(twice).values()) == round(0.7 * sum(sizes_of(network).values()))


def test_zeros_of_an_uploaded_file_do_not_grow_back_before_pruning_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    network = tiny_network(classes=3)
    uploaded = prune(network, Prune(sparsity=0.4), context(network)).network
    uploaded.masks = {}
    zero = {name: uploaded.module.get_parameter(f"{name}.weight") == 0 for name in LAYERS}
    seen: list[TrainingProgress] = []
    step = Prune(
        sparsity=0.8, schedule=Cubic(begin=0.5, end=1.0, frequency=1), training=Recovery(epochs=3, batch_size=8)
    )
    result = prune(uploaded, step, context(uploaded, noise(), on_progress=seen.append)).network
    assert [progress.metrics["sparsity"] for progress in seen][:4] == pytest.approx([0.4] * 4, abs=1e-3)
    assert all(bool((result.module.get_parameter(f"{name}.weight")[zero[name]] == 0).all()) for name in LAYERS)
    assert sum(zeros_of(result).values()) == round(0.8 * sum(sizes_of(result).values()))


def test_layers_pruned_before_stay_so_while_others_are_pruned():
    network = tiny_network(classes=3)
    once = prune(network, Prune(sparsity=0.5, layers=LayerSelection(include=("3",))), context(network)).network
    step = Prune(sparsity=0.9, layers=LayerSelection(include=("7",)), training=Recovery(epochs=1, batch_size=8))
    twice = prune(once, step, context(network, noise())).network
    assert zeros_of(twice)["3"] == zeros_of(once)["3"]
    assert torch.equal(twice.masks["3.weight"], once.masks["3.weight"])


def test_sparser_already():
    network = tiny_network()
    once = prune(network, Prune(sparsity=0.7, scope="layer"), context(network)).network
    with pytest.raises(IncompatibleSpec, match=r"50 of 72 weights of layer '0' are zero already \(69\.4%\)"):
        prune(once, Prune(sparsity=0.5, scope="layer"), context(network))
    with pytest.raises(
        IncompatibleSpec, match=r"of the chosen layers are zero already \(70\.0%\), more than `sparsity` 0.5"
    ):
        prune(once, Prune(sparsity=0.5), context(network))


def test_a_layer_that_is_not_there():
    network = tiny_network()
    with pytest.raises(IncompatibleSpec, match=r"no layer matches 'conv\*'; the layers are 0, 3, 7, 9"):
        prune(network, Prune(sparsity=0.5, layers=LayerSelection(include=("conv*",))), context(network))


def test_training_without_data():
    network = tiny_network()
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        prune(network, Prune(sparsity=0.5, training=Recovery()), context(network))


@pytest.mark.parametrize("schedule", [{}, {"schedule": Cubic(frequency=1)}])
@pytest.mark.parametrize("scope", ["lamp", "erk"])
def test_other_scopes_meet_the_total_to_the_weight_and_no_layer_is_emptied(scope: str, schedule: dict[str, Cubic]):
    network = tiny_network(classes=3)
    once = prune(network, Prune(sparsity=0.3, layers=LayerSelection(include=("3",))), context(network)).network
    step = Prune.model_validate(
        {"sparsity": 0.95, "scope": scope, "training": Recovery(epochs=2, batch_size=8), **schedule}
    )
    result = prune(once, step, context(once, noise())).network
    found, sizes = zeros_of(result), sizes_of(result)
    assert sum(found.values()) == round(0.95 * sum(sizes.values()))
    assert all(found[name] < sizes[name] for name in LAYERS)
    assert not bool((result.masks["3.weight"] & ~once.masks["3.weight"]).any())


def test_lamp_against_the_paper_s_sums():
    network = tiny_network()
    old = {name: network.module.get_parameter(f"{name}.weight").detach().double() for name in LAYERS}
    result = prune(network, Prune(sparsity=0.9, scope="lamp"), context(network)).network
    scores = []
    for weight in old.values():
        squares = weight.flatten() ** 2
        scores.append(torch.tensor([float(one / squares[squares >= one].sum()) for one in squares]))
    kept = torch.cat([result.masks[f"{name}.weight"].flatten() for name in LAYERS])
    flat = torch.cat(scores)
    assert flat[~kept].max() <= flat[kept].min()


def test_erk_layer_by_layer():
    """Shapes (8, 1, 3, 3), (16, 8, 3, 3), (32, 256) and (10, 32) add up to 15, 30, 288 and 42, in all 375."""
    network = tiny_network()
    total = sum(sizes_of(network).values())
    assert total == 72 + 1152 + 8192 + 320
    kept = 375
    result = prune(network, Prune(sparsity=1 - kept / total, scope="erk"), context(network)).network
    sizes = sizes_of(network)
    assert {name: sizes[name] - gone for name, gone in zeros_of(result).items()} == {
        "0": 15,
        "3": 30,
        "7": 288,
        "9": 42,
    }


def test_by_layer_as_torch_prunes():
    network = tiny_network()
    result = prune(network, Prune(sparsity=0.6, scope="layer"), context(network)).network
    for name in LAYERS:
        layer = copy.deepcopy(network.module.get_submodule(name))
        l1_unstructured(layer, "weight", amount=0.6)
        assert torch.equal(layer.weight, result.module.get_submodule(name).weight)


@pytest.mark.parametrize("scope", ["global", "layer", "lamp", "erk"])
def test_layers_with_a_sparsity_of_their_own(scope: str):
    network = tiny_network()
    step = Prune.model_validate({"sparsity": 0.9, "scope": scope, "per_layer": {"0": 0.25, "9": 0.5}})
    found, sizes = zeros_of(prune(network, step, context(network)).network), sizes_of(network)
    assert (found["0"], found["9"]) == (18, 160)
    others = ("3", "7")
    if scope == "layer":
        assert [found[name] for name in others] == [round(0.9 * sizes[name]) for name in others]
    assert sum(found[name] for name in others) == round(0.9 * sum(sizes[name] for name in others))


def test_every_layer_with_a_sparsity_of_its_own_gradually():
    network = tiny_network(classes=3)
    spec = {"sparsity": 0.9, "per_layer": {"[03]": 0.25, "[79]": 0.5}, "schedule": {"kind": "cubic", "frequency": 1}}
    step = Prune.model_validate({**spec, "training": {"epochs": 1, "batch_size": 8}})
    result = prune(network, step, context(network, noise())).network
    assert zeros_of(result) == {"0": 18, "3": 288, "7": 4096, "9": 48}


def test_a_layer_that_two_sparsities_are_given_for():
    network = tiny_network()
    step = Prune.model_validate({"sparsity": 0.9, "per_layer": {"0": 0.25, "*": 0.5}})
    with pytest.raises(IncompatibleSpec, match=r"both '0' and '\*' match layer '0'"):
        prune(network, step, context(network))
