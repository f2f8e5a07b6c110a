"""Networks out of exported files: the same outputs, and the layers that their authors wrote."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.arithmetic import lay_out
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import difference, lifted_network
from modelpress.engine.graphs.network import graph_of
from modelpress.engine.network import weighted_layers
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Call
from tests.support.exported import Photographer, export, trained


def read(path: Path) -> nn.Module:
    return lifted_network(pt2.read(path))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.norm(x + y)[:, 0]


class Sentences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 6)
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(10, 4, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.lstm(self.words(x))
        x, _ = self.gru(x)
        return self.out(x[:, -1])


class Segments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.aux = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.down(x)
        aux = F.interpolate(self.aux(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        return {"out": self.up(y), "aux": aux}


CASES: dict[str, tuple[nn.Module, Tensor, dict[str, str]]] = {
    "images": (
        Photographer(),
        torch.randn(2, 1, 8, 8),
        {"stem": "Conv2d", "body.0.first": "Conv2d", "body.0.norm": "BatchNorm2d", "body.0.act": "ReLU"}
        | {"body.1": "MaxPool2d", "body.2": "Conv2d", "body.3": "GELU", "head": "Linear", "relu": "ReLU"},
    ),
    "attention": (
        Attention(),
        torch.randn(2, 5, 8),
        {"attention.in_proj": "Linear", "attention.out_proj": "NonDynamicallyQuantizableLinear", "norm": "LayerNorm"},
    ),
    "sentences": (
        Sentences(),
        torch.randint(0, 10, (2, 7)),
        {"words": "Embedding", "lstm": "LSTM", "gru": "GRU", "out": "Linear"},
    ),
    "segments": (
        Segments(),
        torch.randn(2, 3, 8, 8),
        {"down.0": "Conv2d", "down.1": "GroupNorm", "down.2": "SiLU", "up": "ConvTranspose2d", "aux": "Conv2d"},
    ),
    "signals": (
        nn.Sequential(
            nn.Conv1d(2, 4, 3, padding="same", dilation=2),
            nn.BatchNorm1d(4),
            nn.PReLU(4),
            nn.ConvTranspose1d(4, 4, 3, stride=2, output_padding=1),
            nn.AdaptiveAvgPool1d(3),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(12, 3),
            nn.LogSoftmax(dim=1),
        ),
        torch.randn(2, 2, 12),
        {"0": "Conv1d", "1": "BatchNorm1d", "2": "PReLU", "3": "ConvTranspose1d", "4": "AdaptiveAvgPool1d"}
        | {"5": "Flatten", "6": "Dropout", "7": "Linear", "8": "LogSoftmax"},
    ),
    "volumes": (
        nn.Sequential(nn.Conv3d(1, 4, 2), nn.BatchNorm3d(4), nn.Hardswish(), nn.AvgPool3d(2), nn.ELU(0.7)),
        torch.randn(2, 1, 5, 5, 5),
        {"0": "Conv3d", "1": "BatchNorm3d", "2": "Hardswish", "3": "AvgPool3d", "4": "ELU"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_lifted_network_gives_exactly_what_the_file_gives(name: str, tmp_path: Path) -> None:
    module, example, layers = CASES[name]
    path = export(trained(module), tmp_path / "model.pt2", example)
    network = read(path)
    images = torch.cat([example, example.flip(1), example.flip(0)])
    with torch.no_grad():
        # torch's own reader; the module itself takes another way through attention where it can.
        exported, wanted, given = torch.export.load(path).module()(images), module(images), network(images)
    if isinstance(wanted, dict):
        wanted, exported = tuple(wanted.values()), tuple(exported.values())
    assert difference(exported, given) == 0
    torch.testing.assert_close(given, wanted)
    found = {layer: type(network.get_submodule(layer)).__name__ for layer in layers}
    assert found == {layer: kind.replace("NonDynamicallyQuantizable", "") for layer, kind in layers.items()}


@pytest.mark.parametrize("name", ["images", "segments", "signals", "volumes"])
def test_weights_keep_the_names_that_they_had(name: str, tmp_path: Path) -> None:
    module, example, _ = CASES[name]
    network = read(export(trained(module), tmp_path / "model.pt2", example))
    state = module.state_dict()
    assert network.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    assert {key for key, _ in network.named_parameters()} == {key for key, _ in module.named_parameters()}


def test_what_no_layer_stands_for_stays_a_call(tmp_path: Path) -> None:
    network = read(export(trained(Photographer()), tmp_path / "model.pt2", torch.randn(2, 1, 8, 8)))
    called = {node.operator for node in graph_of(network).nodes if isinstance(node, Call)}
    assert called == {"add.Tensor", "mul.Tensor", "mean.dim"}
    assert list(graph_of(network).weights) == ["scale"]


class Fixed(nn.Module):
    """A filter and a norm that are buffers, as BlurPool and detectors' frozen norms have them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.register_buffer("blur", torch.rand(8, 1, 3, 3))
        self.frozen = nn.Module()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.frozen.register_buffer(name, torch.rand(8) + 0.5)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(self.first(x), self.get_buffer("blur"), stride=2, groups=8)
        frozen = dict(self.frozen.named_buffers())
        x = F.batch_norm(x, frozen["running_mean"], frozen["running_var"], frozen["weight"], frozen["bias"])
        scores: Tensor = self.last(torch.relu(x).mean((2, 3)))
        return scores


def test_what_is_fixed_in_the_module_is_no_layer(tmp_path: Path) -> None:
    module, images = Fixed().eval(), torch.randn(2, 3, 8, 8)
    network = read(export(module, tmp_path / "model.pt2", images))
    torch.testing.assert_close(network(images), module(images), rtol=0, atol=0)
    assert {name for name, _ in network.named_parameters()} == {name for name, _ in module.named_parameters()}
    assert weighted_layers(network).keys() == {"first", "last"}
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network.train()
    F.cross_entropy(network(images), torch.tensor([0, 1])).backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.named_buffers())


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_statistics_of_all_batches_are_learned_on(momentum: float | None, tmp_path: Path) -> None:
    """A network in evaluation mode says 0 of them, which would keep statistics as they are for ever."""
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=momentum)))
    network = read(export(module, tmp_path / "model.pt2", torch.randn(2, 3, 8, 8)))
    norm = network.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == (momentum or 0.1)
    before = norm.get_buffer("running_mean").clone()
    network.train()(torch.randn(4, 3, 8, 8))
    assert not torch.equal(norm.get_buffer("running_mean"), before)


class Viewed(nn.Module):
    """Takes views where there are as many pixels as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        scores: Tensor = self.last(x.view(x.size(0), -1).view_as(torch.zeros(x.size(0), 512)))
        return scores


def test_views_take_images_of_any_layout(tmp_path: Path) -> None:
    module, images = Viewed().eval(), torch.randn(2, 3, 8, 8)
    network = read(export(module, tmp_path / "model.pt2", images))
    wanted = module(images)
    torch.testing.assert_close(network(images), wanted, rtol=0, atol=0)
    # As data sets give images, and trainings lay out kernels.
    lay_out(network, torch.channels_last)
    torch.testing.assert_close(network(images.contiguous(memory_format=torch.channels_last)), wanted)


class Whole(nn.Module):
    """Gives whole numbers beside its scores."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.first(x).flatten(1)
        return (scores > 0).sum(1), scores


def test_outputs_need_not_be_fractions(tmp_path: Path) -> None:
    module, images = Whole().eval(), torch.randn(2, 3, 8, 8)
    network = read(export(module, tmp_path / "model.pt2", images))
    assert difference(network(images), module(images)) == 0


class Written(nn.Module):
    """Writes into a view of what it takes a second time: the layout decides whether the second sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x.view(x.size(0), -1).mul_(2)
        scores: Tensor = self.last(x.flatten(1))
        return scores


def test_a_network_that_writes_into_a_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="writes into a view"):
        read(export(Written().eval(), tmp_path / "model.pt2", torch.randn(2, 3, 8, 8)))


def test_a_lifted_network_trains_as_its_module_does(tmp_path: Path) -> None:
    module = trained(Photographer())
    network = read(export(module, tmp_path / "model.pt2", torch.randn(2, 1, 8, 8)))
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6)
    for each in (module, network):
        each.train()
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(each(images), labels).backward()
            optimizer.step()
    state = module.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


class Sequence(nn.Module):
    """Rows of an image one after the other, with dropout inside the layers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.attends = kind == "attention"
        if self.attends:
            self.inner: nn.Module = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.5, batch_first=True)
        else:
            self.inner = getattr(nn, kind)(8, 8, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        found = self.inner(x[:, 0])
        return (found if self.attends else found[0]).flatten(1)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "attention"])
def test_dropout_inside_layers_is_left_to_training_too(kind: str, tmp_path: Path) -> None:
    module = trained(Sequence(kind))
    network = read(export(module.train(), tmp_path / "model.pt2", torch.randn(2, 1, 8, 8)))
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_model_exported_in_training_is_one_for_training_and_evaluation(tmp_path: Path) -> None:
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten()))
    path = export(module.train(), tmp_path / "model.pt2", torch.randn(2, 1, 8, 8))
    network = read(path)
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(module.eval()(images), network(images))


@pytest.mark.parametrize("tracks", [True, False])
def test_an_instance_norm_takes_what_it_takes_in_a_prediction(tracks: bool, tmp_path: Path) -> None:
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, track_running_stats=tracks), nn.Flatten()))
    network = read(export(module.train(), tmp_path / "model.pt2", torch.randn(2, 1, 8, 8)))
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module.eval()(images), rtol=1e-4, atol=1e-5)


class Windows(nn.Module):
    """Reshapes as attention over windows does: the batch times four in front."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = x.view(batch, 3, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(batch * 4, 12)
        return self.mix(x).view(batch, 24)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_exported_for_one_batch_takes_any(batch: int, tmp_path: Path) -> None:
    module = trained(Windows())
    network = read(export(module, tmp_path / "model.pt2", torch.randn(batch, 3, 4, 4), dynamic=False))
    images = torch.randn(5, 3, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(network(images), module(images))


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - x.flatten(1).mean(0)) @ torch.ones(4, 2)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_whose_images_depend_on_each_other_is_refused(batch: int, tmp_path: Path) -> None:
    path = export(Mixing(), tmp_path / "model.pt2", torch.randn(batch, 1, 2, 2), dynamic=False)
    with pytest.raises(InvalidModel, match=rf"exported for batches of {batch} alone(.|\n)*Dim\(\"batch\""):
        read(path)


class Single(nn.Module):
    """Splits into one part."""

    def forward(self, x: Tensor) -> Tensor:
        (part,) = torch.split(x, x.shape[1], 1)
        return part.flatten(1) * 2


class Scale(nn.Linear):
    """A weight at the root."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


class Ours(nn.Module):
    """Parts whose names are those that our own network might have."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
        self.run, self.plan = nn.Linear(8, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.plan(self.run(self.graph(x).flatten(1)))


@pytest.mark.parametrize("kind", ["single", "scale", "ours"])
def test_names_and_lists_of_one_are_no_obstacle(kind: str, tmp_path: Path) -> None:
    module = trained({"single": Single, "scale": lambda: Scale(4, 3), "ours": Ours}[kind]())
    network = read(export(module, tmp_path / "model.pt2", torch.randn(2, 1, 2, 2)))
    images = torch.randn(3, 1, 2, 2)
    with torch.no_grad():
        assert torch.equal(network(images), module(images))
    # What lies at the root is a layer that needs a name here.
    names = {name.removeprefix("weight_layer.") for name in network.state_dict()}
    assert names == module.state_dict().keys()


def test_half_precision_is_widened(tmp_path: Path) -> None:
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)))
    path = export(module.half(), tmp_path / "model.pt2", torch.randn(2, 1, 8, 8).half())
    network = read(path)
    images = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(images), module.float()(images))


def test_one_weight_in_two_layers_is_held_by_one(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    module[2].weight = module[0].weight
    network = read(export(trained(module), tmp_path / "model.pt2", torch.randn(2, 4)))
    images = torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(network(images), module(images))
