"""Criteria against numbers worked out by hand, numpy, and torch-pruning's importance called directly."""

from __future__ import annotations

import copy
from math import sqrt

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.network import Network
from modelpress.engine.prune_channels.importance import Importance
from modelpress.engine.prune_channels.trial import find_groups
from modelpress.spec.failure import Diverged, IncompatibleSpec
from modelpress.spec.steps import ChannelTarget, PruneChannels
from tests.support.contexts import context
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_network

DATA = noise(30)
GENERATOR = torch.Generator()


def scores(network: Network, criterion: str, root: str = "3", images: int = 1000) -> Tensor:
    step = PruneChannels(
        target=ChannelTarget(kind="channels", removed=0.5),
        criterion=criterion,  # type: ignore[arg-type]
        calibration_images=images,
    )
    groups, _ = find_groups(network.module, network.description.input_shape)
    importance = Importance(network, step, context(network, DATA), groups)
    (group,) = (group for group in groups if group.root == root)
    found = importance.of(group, GENERATOR)
    assert found is not None
    return found


def original() -> Network:
    return tiny_network(DATA.statistics, classes=3)


def loss_of(module: nn.Module, chosen: slice = slice(None)) -> Tensor:
    images = normalised(DATA.train_images[chosen], DATA.statistics)
    return F.cross_entropy(module(images), DATA.train_labels[chosen])


def torch_pruning_s(module: nn.Module, importance: tp.importance.Importance, root: str = "3") -> Tensor:
    """What torch-pruning gives the outputs of a layer, by themselves: the group's first entry alone."""
    graph = tp.DependencyGraph().build_dependency(module, torch.randn(2, 1, 8, 8))
    layer = module.get_submodule(root)
    group = graph.get_pruning_group(layer, tp.prune_conv_out_channels, list(range(len(layer.weight))))
    del group.items[1:]
    return importance(group)


def test_geometric_median_by_hand() -> None:
    network = original()
    weight = torch.zeros(16, 8, 3, 3)
    weight[:, 0, 0, 0] = torch.tensor([0.0, 3.0, *[0.0] * 14])
    weight[:, 1, 2, 2] = torch.tensor([0.0, 4.0, *[0.0] * 14])
    network.module.get_parameter("3.weight").data = weight
    # One lies 5 away from fifteen that are alike.
    assert scores(network, "geometric_median").tolist() == pytest.approx([5.0, 75.0, *[5.0] * 14], abs=1e-5)


def test_geometric_median_against_torch_pruning() -> None:
    network = original()
    # Its distances are those of |w|^p.
    expected = torch_pruning_s(copy.deepcopy(network.module), tp.importance.FPGMImportance(p=1, normalizer=None))
    network.module.get_parameter("3.weight").data.abs_()
    torch.testing.assert_close(scores(network, "geometric_median").float(), expected, rtol=1e-4, atol=1e-5)


def test_taylor_is_the_square_of_what_torch_pruning_gives() -> None:
    network = original()
    module = copy.deepcopy(network.module)
    loss_of(module).backward()
    expected = torch_pruning_s(module, tp.importance.TaylorImportance(multivariable=True, normalizer=None))
    torch.testing.assert_close(scores(network, "taylor").sqrt().float(), expected, rtol=1e-3, atol=1e-7)


def test_taylor_foretells_what_the_loss_changes_by() -> None:
    network = original()
    found = scores(network, "taylor")
    for channel in (0, 5):
        changed = []
        for factor in (1 - 1e-3, 1 + 1e-3):
            module = copy.deepcopy(network.module).double()
            module.get_parameter("3.weight").data[channel] *= factor
            images = normalised(DATA.train_images, DATA.statistics).double()
            with torch.no_grad():
                changed.append(float(F.cross_entropy(module(images), DATA.train_labels)))
        slope = (changed[1] - changed[0]) / 2e-3  # of the loss along the channel's weights
        assert sqrt(float(found[channel])) == pytest.approx(abs(slope), rel=1e-3)


def test_hessian_against_torch_pruning_and_numpy() -> None:
    network = original()
    module = copy.deepcopy(network.module)
    importance = tp.importance.HessianImportance(normalizer=None)
    squares = np.zeros((16, 8, 3, 3))
    gradients: dict[str, Tensor] = {}
    for image in range(30):
        module.zero_grad()
        loss_of(module, slice(image, image + 1)).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None
            gradients[name] = gradients.get(name, 0) + parameter.grad.square() / 30  # type: ignore[assignment]
        gradient = module.get_parameter("3.weight").grad
        assert gradient is not None
        squares += gradient.double().numpy() ** 2 / 30
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name]  # what it makes of its own sums when it is called
    weight = module.get_parameter("3.weight").detach().double().numpy()
    found = scores(network, "hessian")
    np.testing.assert_allclose(found.numpy(), (squares * weight**2).sum((1, 2, 3)) / 2, rtol=1e-3)
    torch.testing.assert_close(2 * found.float(), torch_pruning_s(module, importance), rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_no_more_images_than_asked_for_and_the_network_stays_as_it_was(criterion: str) -> None:
    network = original()
    before = copy.deepcopy(network.module.state_dict())
    assert not torch.allclose(scores(network, criterion, images=2), scores(network, criterion), rtol=0.05, atol=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    assert all(parameter.grad is None for parameter in network.module.parameters())


def test_the_mean_over_layers_that_make_a_channel() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 6)

        def forward(self, images: Tensor) -> Tensor:
            return self.last(torch.relu(self.one(images) + self.other(images))).flatten(1)

    network = Network(Sum().eval(), original().description)
    one, other = (network.module.get_parameter(f"{name}.weight").detach().flatten(1) for name in ("one", "other"))
    expected = {
        "geometric_median": (torch.cdist(one, one).sum(1) + torch.cdist(other, other).sum(1)) / 2,
        "l1": (one.abs().sum(1) + other.abs().sum(1)) / 2,
        "l2": (one.square().sum(1).sqrt() + other.square().sum(1).sqrt()) / 2,
    }
    for criterion, value in expected.items():
        torch.testing.assert_close(scores(network, criterion, "one").float(), value, rtol=1e-4, atol=1e-5)


def test_without_data_or_with_gradients_that_are_not_numbers() -> None:
    network = original()
    step = PruneChannels(target=ChannelTarget(kind="channels", removed=0.5), criterion="hessian")
    groups, _ = find_groups(network.module, (1, 8, 8))
    with pytest.raises(IncompatibleSpec, match="`hessian` takes gradients, which needs a data set"):
        Importance(network, step, context(network), groups)
    network.module.get_parameter("9.bias").data[0] = torch.nan
    with pytest.raises(Diverged, match="use the criterion `l2`"):
        Importance(network, step, context(network, DATA), groups)
