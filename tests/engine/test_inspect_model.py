"""What an inspection says of a model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine import inspect_model as inspecting
from modelpress.engine.estimate.plans import PLANS
from modelpress.engine.formats import compact
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.inspect_layers import inspect_layers
from modelpress.engine.inspect_model import inspect_model, inspect_upload
from modelpress.engine.measure import count_layer_macs
from modelpress.engine.network import Network, rebuild, weighted_layers
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import Call, Graph, Layer, LayerCall, TensorShape, ValueOf
from modelpress.spec.inspection import ModelInspection
from modelpress.spec.network import NetworkDescription
from modelpress.spec.task import ModelFile
from tests.engine.test_original import model_file
from tests.support.exported import export
from tests.support.networks import describe, network


def inspected(architecture: str, folder: Path, image_size: int | None = None, **arguments: Any) -> ModelInspection:
    torch.save(network(describe(architecture, **arguments)).module.state_dict(), folder / "model.pt")
    return inspect_model(model_file("model.pt", architecture, arguments=arguments, image_size=image_size), folder)


def test_figures_follow_the_closed_forms(tmp_path: Path) -> None:
    found = inspected("snn_1k", tmp_path, num_classes=7)
    assert found.num_classes == 7
    assert found.network.input_shape == (3, 32, 32)
    assert found.format == "pt"
    # Products: output pixels x outputs x inputs x kernel.
    assert found.macs == 28 * 28 * 6 * 3 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 1000 + 1000 * 7
    assert found.parameters == (25 * 3 * 6 + 6) + (25 * 6 * 16 + 16) + (400 * 1000 + 1000) + (1000 * 7 + 7)


def test_layers_by_type_add_up(tmp_path: Path) -> None:
    found = inspected("resnet20_cifar", tmp_path)
    types = {figures.type: figures for figures in found.layer_types}
    # A convolution and three stages of three blocks of two; parameter-free shortcuts.
    assert (types["Conv2d"].layers, types["BatchNorm2d"].layers, types["Linear"].layers) == (19, 19, 1)
    assert sum(figures.parameters for figures in found.layer_types) == found.parameters
    assert sum(figures.macs for figures in found.layer_types) == found.macs
    assert sum(layer.macs or 0 for layer in found.layers) == found.macs
    assert (found.input_shape, found.output_shape) == ((3, 32, 32), (10,))


def test_estimates_are_of_this_file(tmp_path: Path) -> None:
    inspected("snn_1k", tmp_path)
    found = inspect_upload(model_file("model.pt", "snn_1k"), tmp_path)
    assert [estimate.steps for estimate in found.estimates] == list(PLANS)
    for estimate in found.estimates:
        assert estimate.stored_bytes is not None
        assert estimate.share == pytest.approx(estimate.stored_bytes / found.fp32_bytes, abs=1e-4)
        assert 0 < estimate.share < 1


def test_bytes_are_those_of_the_fp32_file(tmp_path: Path) -> None:
    found = inspected("resnet20_cifar", tmp_path)
    save_file(network(describe("resnet20_cifar")).module.state_dict(), tmp_path / "plain.safetensors")
    assert found.fp32_bytes == (tmp_path / "plain.safetensors").stat().st_size


def test_layers_and_what_can_be_done_with_them(tmp_path: Path) -> None:
    layers = {layer.name: layer for layer in inspected("snn_1k", tmp_path).layers}
    assert list(layers) == ["features.0", "features.3", "classifier.0", "classifier.2"]
    first, hidden = layers["features.0"], layers["classifier.0"]
    assert (first.type, first.weight_shape, first.parameters) == ("Conv2d", (6, 3, 5, 5), 456)
    # The matrix (C kh) x (N kw), and the matrix of the linear layer.
    assert first.full_rank == min(3 * 5, 6 * 5)
    assert hidden.full_rank == 400
    assert all(layer.prunable and layer.untreated is None for layer in layers.values())


def test_depthwise_layers_are_factorized_by_channel(tmp_path: Path) -> None:
    found = inspected("mobilenet_v3_small", tmp_path, image_size=32, num_classes=5)
    depthwise = [layer for layer in found.layers if layer.groups > 1]
    assert depthwise
    # Each channel's kernel is a matrix of its own.
    assert all(layer.full_rank == layer.weight_shape[2] and layer.untreated is None for layer in depthwise)
    pointwise = [layer for layer in found.layers if layer.groups == 1 and layer.weight_shape[2:] == (1, 1)]
    assert all(layer.full_rank == min(layer.weight_shape[:2]) for layer in pointwise)


@pytest.mark.parametrize("architecture", ["mobilenet_v3_small", "swin_t"])
def test_calls_say_how_many_products_there_are(architecture: str, tmp_path: Path) -> None:
    found = inspected(architecture, tmp_path, image_size=32, num_classes=5)
    module = network(describe(architecture, image_size=32, num_classes=5)).module
    layers = weighted_layers(module)
    counted = count_layer_macs(module, layers, found.network.input_shape)[1]
    for layer in found.layers:
        places = sum(math.prod(call.output_size) for call in layer.calls)
        assert math.prod(layer.weight_shape) * places == counted[layer.name]


class Tied(nn.Module):
    """Calls a layer, and uses its weight a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.linear(F.relu(self.mix(x.mean((2, 3)).repeat(1, 6))), self.mix.weight))


def test_a_layer_whose_weight_is_also_read_cannot_be_replaced(tmp_path: Path) -> None:
    network = lifted_network(pt2.read(export(Tied().eval(), tmp_path / "model.pt2", torch.randn(2, 1, 4, 4))))
    layers = {layer.name: layer for layer in inspect_layers(network, (1, 4, 4))}
    assert layers["mix"].untreated == "the network also reads its weight without calling it"
    assert layers["head"].untreated is None


def test_layers_that_are_read_but_never_called_cannot_be_factorized(tmp_path: Path) -> None:
    found = inspected("swin_t", tmp_path, image_size=32, num_classes=5)
    attention = [layer for layer in found.layers if layer.name.endswith(("attn.qkv", "attn.proj"))]
    others = [layer for layer in found.layers if layer not in attention]
    assert len(attention) == 2 * 12  # swin_t has 2 + 2 + 6 + 2 blocks
    assert all(layer.full_rank is None and "without calling it" in (layer.untreated or "") for layer in attention)
    assert all(layer.full_rank is not None for layer in others)


def test_an_image_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"does not take images of 3 x 64 x 64 .*give the `image_size`"):
        inspected("vgg11_cifar", tmp_path, image_size=64)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    broken = network(describe("snn_1k")).module
    nn.init.constant_(broken.features[3].bias, float("nan"))
    torch.save(broken.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InvalidModel, match=r"these weights are not: features\.3\.bias"):
        inspect_model(model_file("model.pt", "snn_1k"), tmp_path)


def test_weights_too_large_for_fp32_are_told_apart(tmp_path: Path) -> None:
    broken = network(describe("snn_1k")).module
    nn.init.constant_(broken.features[0].bias, 3e38)
    nn.init.constant_(broken.features[3].weight, 3e38)
    torch.save(broken.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InvalidModel, match="finite, but too large"):
        inspect_model(model_file("model.pt", "snn_1k"), tmp_path)


def test_a_model_of_one_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="at least two"):
        inspected("snn_1k", tmp_path, num_classes=1)


class _Shares(nn.Module):
    """Probabilities without a softmax."""

    def forward(self, scores: Tensor) -> Tensor:
        exponentials = scores.exp()
        return exponentials / exponentials.sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("last", "notes"),
    [
        (nn.Softmax(1), (inspecting.PROBABILITIES,)),
        (_Shares(), (inspecting.OTHER_PROBABILITIES,)),
        (nn.LogSoftmax(1), ()),
        (nn.Sigmoid(), ()),
        (nn.Identity(), ()),
    ],
    ids=["softmax", "shares", "logarithms", "sigmoid", "scores"],
)
def test_probabilities_are_told_from_scores(last: nn.Module, notes: tuple[str, ...], tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), last).eval()
    path = export(module, tmp_path / "model.pt2", torch.randn(2, 3, 8, 8))
    found = inspect_model(ModelFile(path=path.name, format="pt2", sha256=""), tmp_path)
    assert found.notes == notes


def test_auxiliary_heads_do_not_keep_a_model_out(tmp_path: Path) -> None:
    found = inspected("googlenet", tmp_path, image_size=64, num_classes=5, aux_logits=True)
    assert found.num_classes == 5


def row_of_layers(names: list[str], calls: int = 1) -> Network:
    """Linear layers one behind the other, each called so often, on images of one pixel."""
    nodes: list[Call | LayerCall] = [
        Call(operator="flatten.using_ints", arguments=(ValueOf(value="x"), 1), outputs=("v",))
    ]
    given = "v"
    for name in names:
        for _ in range(calls):
            made = f"v{len(nodes)}"
            nodes.append(LayerCall(layer=name, inputs=(ValueOf(value=given),), outputs=(made,)))
            given = made
    layer = Layer(type="Linear", arguments={"in_features": 2, "out_features": 2})
    graph = Graph(
        inputs={"x": TensorShape(shape=(1, 2, 1, 1))},
        layers=dict.fromkeys(names, layer),
        nodes=tuple(nodes),
        outputs=(given,),
    )
    description = NetworkDescription(architecture=graph, input_shape=(2, 1, 1))
    return Network(rebuild(description).eval(), description)


def test_names_of_layers_that_would_fill_the_inspection_are_refused(tmp_path: Path) -> None:
    """A file of a few kilobytes, whose names the estimates would repeat fourteen times."""
    names = [f"{'x' * 470}{number}" for number in range(300)]
    compact.write(row_of_layers(names), tmp_path / "model.mpz")
    assert (tmp_path / "model.mpz").stat().st_size < 20_000
    with pytest.raises(InvalidModel, match=r"names of the model's 300 layers .* limit is 131,072, .*shorter names"):
        inspect_upload(model_file("model.mpz", None), tmp_path)


def test_an_inspection_that_would_be_megabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls here, each of which is shown."""
    compact.write(row_of_layers(["a", "b"], calls=100), tmp_path / "model.mpz")
    file = model_file("model.mpz", None)
    shown = len(inspect_upload(file, tmp_path).model_dump_json(indent=2))
    monkeypatch.setattr(inspecting, "MOST_INSPECTION_BYTES", shown)
    inspect_upload(file, tmp_path)
    monkeypatch.setattr(inspecting, "MOST_INSPECTION_BYTES", shown - 1)
    with pytest.raises(InvalidModel, match=r"2 layers with weights, which are called 200 times, .* smaller network"):
        inspect_upload(file, tmp_path)
