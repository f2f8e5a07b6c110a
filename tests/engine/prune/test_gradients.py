from __future__ import annotations

import copy
from dataclasses import replace
from math import log

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.prune.gradients import Gradients
from modelpress.spec.failure import Diverged
from modelpress.spec.network import Preprocessing
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_network

AS_IS = Preprocessing(mean=(0.0,), std=(1.0,))


def two_weights() -> nn.Sequential:
    """Outputs (0, x ln 3) for the one pixel x: probabilities 1/4 and 3/4 where x is 1."""
    linear = nn.Linear(1, 2, bias=False)
    linear.weight.data = torch.tensor([[0.0], [log(3)]])
    return nn.Sequential(nn.Flatten(), linear)


def white(labels: list[int]) -> ImageData:
    images = torch.full((len(labels), 1, 1, 1), 255, dtype=torch.uint8)
    wanted = torch.tensor(labels)
    return ImageData(images, wanted, images, wanted, ("a", "b"), AS_IS)


def gradient(labels: list[int], count: int = 100) -> list[float]:
    module = two_weights()
    weights = {"1.weight": module.get_parameter("1.weight")}
    found = Gradients(module, white(labels), AS_IS, count=count, seed=0).of(weights)
    assert found["1.weight"].shape == (2, 1)
    return found["1.weight"].flatten().tolist()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0], [-0.75, 0.75]), ([1], [0.25, -0.25]), ([0, 1], [-0.25, 0.25]), ([0, 1, 1, 1], [0.0, 0.0])],
)
def test_probabilities_less_labels_by_hand(labels: list[int], expected: list[float]):
    assert gradient(labels) == pytest.approx(expected, abs=1e-7)


def test_squares_are_of_each_image_s_own_gradient_by_hand():
    module = two_weights()
    weights = {"1.weight": module.get_parameter("1.weight")}
    found = Gradients(module, white([0, 1, 1, 1]), AS_IS, count=100, seed=0).squares_of(weights)
    # -0.75 once and 0.25 three times, whose mean is zero and whose mean square is 3/16
    assert found["1.weight"].flatten().tolist() == pytest.approx([3 / 16, 3 / 16], abs=1e-7)


def test_so_many_images_and_no_more():
    one = gradient([0, 1] * 50, count=1)
    assert one in (pytest.approx([-0.75, 0.75]), pytest.approx([0.25, -0.25]))


def test_over_batches_of_real_layers_against_one_backward_pass():
    data = noise(150)
    network = tiny_network(classes=3)
    module = network.module
    layers: dict[str, nn.Parameter] = {name: module.get_parameter(name) for name in ("0.weight", "9.weight")}
    found = Gradients(module, data, data.statistics, count=1000, seed=0).of(layers)
    other = copy.deepcopy(module).eval()
    F.cross_entropy(other(normalised(data.train_images, data.statistics)), data.train_labels).backward()
    for name, one in found.items():
        torch.testing.assert_close(one, other.get_parameter(name).grad, rtol=1e-4, atol=1e-7)


def test_the_module_stays_as_it_was():
    data = noise()
    module = tiny_network(classes=3).module.train()
    module[1].eval()
    before = copy.deepcopy(module.state_dict())
    kept: Tensor = torch.ones_like(module.get_parameter("9.weight"))
    module.get_parameter("9.weight").grad = kept
    Gradients(module, data, data.statistics, count=8, seed=0).of({"9.weight": module.get_parameter("9.weight")})
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.get_parameter("9.weight").grad is kept
    assert bool((kept == 1).all())
    assert module.training
    assert not module[1].training


def test_a_weight_that_the_loss_does_not_depend_on():
    module = two_weights()
    module.add_module("unused", nn.Identity())
    unused = nn.Parameter(torch.ones(3))
    assert Gradients(module, white([0]), AS_IS, count=1, seed=0).of({"x": unused})["x"].tolist() == [0.0, 0.0, 0.0]


def test_gradients_that_are_not_numbers():
    module = two_weights()
    module.get_parameter("1.weight").data[0] = torch.nan
    data = replace(white([0]), classes=("a", "b"))
    with pytest.raises(Diverged, match="use the criterion `magnitude`"):
        Gradients(module, data, AS_IS, count=1, seed=0).of({"1.weight": module.get_parameter("1.weight")})
