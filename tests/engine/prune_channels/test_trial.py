"""Groups that would break a network are found out, whatever others are tried beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.prune_channels import trial
from modelpress.engine.prune_channels.groups import Group, trace_groups
from modelpress.engine.prune_channels.trial import find_groups
from tests.support.exported import export

SHAPE = (1, 8, 8)
CHANNELS = {"0": 6, "2": 8, "4": 2, "6": 10}


def plain() -> nn.Sequential:
    """Four convolutions of 6, 8, 2 and 10 channels, and a linear layer."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip([1, *CHANNELS.values()], CHANNELS.values(), strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(640, 3)).eval()


def shifted(group: Group) -> Group:
    """The group with its readers' indices moved by one channel: as many leave, and the wrong ones."""
    size = len(group.members[-1][2])
    members = [
        (name, is_output, pairs if is_output else tuple((channel, (index + 1) % size) for channel, index in pairs))
        for name, is_output, pairs in group.members
    ]
    return replace(group, members=tuple(members))


def one_sided(group: Group) -> Group:
    """The group without those that read its channels."""
    return replace(group, members=tuple(member for member in group.members if member[1]))


def beyond(group: Group) -> Group:
    """The group with indices that its layers do not have."""
    members = [(name, side, tuple((c, index + 1000) for c, index in pairs)) for name, side, pairs in group.members]
    return replace(group, members=tuple(members))


def test_what_can_be_pruned() -> None:
    groups, reasons = find_groups(plain(), SHAPE)
    assert {group.root: group.channels for group in groups} == CHANNELS
    assert reasons == {"9": "its channels are the network's outputs"}


@pytest.mark.parametrize("bad", CHANNELS)
@pytest.mark.parametrize(
    ("break_it", "reason"),
    [(shifted, "does not give what it gives"), (one_sided, "cannot follow"), (beyond, "cannot follow")],
)
def test_a_bad_group_among_good_ones(monkeypatch: pytest.MonkeyPatch, bad: str, break_it: object, reason: str) -> None:
    module = plain()
    groups, reasons = trace_groups(module, SHAPE)
    broken = [break_it(group) if group.root == bad else group for group in groups]  # type: ignore[operator]
    monkeypatch.setattr(trial, "trace_groups", lambda *_: (broken, dict(reasons)))
    found, why = find_groups(module, SHAPE)
    assert {group.root for group in found} == set(CHANNELS) - {bad}
    assert reason in why[bad]


def test_what_does_not_reach_the_outputs_is_found_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    module = plain()
    with torch.no_grad():
        module.get_parameter("9.weight").zero_()
    groups, _ = trace_groups(module, SHAPE)
    monkeypatch.setattr(trial, "trace_groups", lambda *_: ([shifted(groups[0]), *groups[1:]], {}))
    _, why = find_groups(module, SHAPE)
    assert set(why) == {"0"}


def test_of_two_that_cannot_go_together_the_first_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    module = plain()
    groups, _ = trace_groups(module, SHAPE)
    # Both are right, and one of two channels goes of each: together that leaves none.
    narrow = next(group for group in groups if group.root == "4")
    other = replace(
        narrow,
        root="again",
        members=tuple((name, side, tuple((1 - c, i) for c, i in pairs)) for name, side, pairs in narrow.members),
    )
    monkeypatch.setattr(trial, "trace_groups", lambda *_: ([groups[0], narrow, other], {}))
    found, _ = find_groups(module, SHAPE)
    assert [group.root for group in found] == ["0", "4"]


def test_two_that_lose_the_same_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum holds the channels of two layers together; taken for independent, each loses others."""
    module = Sum().eval()
    groups, _ = trace_groups(module, SHAPE)
    (group,) = (group for group in groups if group.root == "first")
    apart = [
        replace(group, root=name, members=tuple(member for member in group.members if member[0] in (name, "last")))
        for name in ("first", "second")
    ]
    monkeypatch.setattr(trial, "trace_groups", lambda *_: (apart, {}))
    found, why = find_groups(module, SHAPE)
    assert found == []
    assert set(why) == {"first", "second"}


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 8, 3), nn.Conv2d(8, 3, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(torch.tanh(self.first(images) + self.second(images))).flatten(1)
        return scores


class Twice(nn.Module):
    """One kernel at two strides: a graph calls the layer, and an operator with its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.both = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.both(torch.relu(self.first(images))))
        features = functional.conv2d(features, self.both.weight, None, 2, 1)
        scores: torch.Tensor = self.last(features.mean((2, 3)))
        return scores


def test_a_weight_that_an_operator_reads_keeps_its_channels(tmp_path: Path) -> None:
    path = export(Twice().eval(), tmp_path / "model.pt2", torch.randn(2, *SHAPE))
    groups, why = find_groups(lifted_network(pt2.read(path)), SHAPE)
    assert groups == []
    assert "an operator reads the weight" in why["first"]


class Scaled(nn.Module):
    """A layer with a tensor of its own beside its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 3)
        self.first.register_buffer("gain", torch.tensor(1.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last((self.first(images) * self.first.gain).mean((2, 3)))
        return scores


def test_a_tensor_beside_the_weight_is_in_nobodys_way(tmp_path: Path) -> None:
    path = export(Scaled().eval(), tmp_path / "model.pt2", torch.randn(2, *SHAPE))
    groups, _ = find_groups(lifted_network(pt2.read(path)), SHAPE)
    assert [group.root for group in groups] == ["first"]


class OfOneSize(nn.Module):
    """Takes images of 96 x 96 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 8, stride=8), nn.Linear(4 * 144, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] != 96:
            raise ValueError("not 96 x 96")
        scores: torch.Tensor = self.last(torch.relu(self.first(images)).flatten(1))
        return scores


def test_networks_for_one_size_of_images_are_tried_on_that() -> None:
    module = OfOneSize().eval()
    groups, reasons = find_groups(module, (1, 96, 96))
    assert [group.root for group in groups] == ["first"]
    assert set(reasons) == {"last"}
