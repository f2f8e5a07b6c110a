"""A graph as a module, as data, and as the network of every method and file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from modelpress.engine.formats.load import load_network
from modelpress.engine.formats.registry import WRITERS
from modelpress.engine.graphs.network import GraphNetwork, graph_of
from modelpress.engine.network import Network, rebuild
from modelpress.engine.original import load_original
from modelpress.engine.steps import STEPS
from modelpress.spec.failure import InvalidModel
from modelpress.spec.graph import MOST_NODES, Graph, GraphOutline
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import Step
from modelpress.spec.task import ModelFile
from tests.support.contexts import context
from tests.support.exported import Photographer, export, trained
from tests.support.image_data import noise

STEP: TypeAdapter[Step] = TypeAdapter(Step)  # type: ignore[type-arg, valid-type]  # an annotated union
BRIEF = {"epochs": 1, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01}
INPUT = {"x": {"shape": (0, 4)}}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.pt2"
    return export(trained(Photographer(classes=3)), path, torch.randn(2, 1, 8, 8))


def original(path: Path) -> Network:
    network = load_original(ModelFile(path=path.name, format="pt2", sha256=""), path.parent)
    network.description = network.description.model_copy(
        update={"preprocessing": noise(8, size=8, channels=1, heldout=2).statistics}
    )
    return network


def outputs(network: Network) -> torch.Tensor:
    images = torch.rand(5, *network.description.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = network.module.eval()(images)
    return found


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "prune", "sparsity": 0.6, "training": BRIEF},
        {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.3}, "training": BRIEF},
        {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.5}, "training": BRIEF},
        {"kind": "distill", "student": {"kind": "current"}, "training": BRIEF},
        {"kind": "quantize", "bits": 4, "training": BRIEF},
        {"kind": "finetune", "training": BRIEF},
    ],
    ids=lambda step: step["kind"],
)
def test_every_method_treats_it_and_every_file_holds_it(step: dict[str, Any], exported: Path, tmp_path: Path) -> None:
    network = original(exported)
    before = sum(parameter.numel() for parameter in network.module.parameters())
    chosen = STEP.validate_python(step)
    result = STEPS[chosen.kind](network, chosen, context(original=network, data=noise(24, size=8, channels=1)))
    changed = result.network
    if chosen.kind in ("prune_channels", "factorize"):
        assert sum(parameter.numel() for parameter in changed.module.parameters()) < before
    for kind in (ArtifactKind.COMPACT, ArtifactKind.SAFETENSORS):
        path = tmp_path / kind
        WRITERS[kind](changed, path)
        read = load_network(path)
        assert read.description == changed.description
        assert torch.equal(outputs(read), outputs(changed))


def test_a_graph_survives_its_json(exported: Path) -> None:
    description = original(exported).description
    assert NetworkDescription.model_validate_json(description.model_dump_json()) == description
    module = rebuild(description)
    assert module.training
    assert isinstance(module, GraphNetwork)
    assert graph_of(module) == description.architecture


def test_an_outline_says_what_a_graph_has(exported: Path) -> None:
    assert original(exported).description.summary().architecture == GraphOutline(
        nodes=15, layers=9, operators=("add.Tensor", "mean.dim", "mul.Tensor")
    )


def graph(*nodes: dict[str, Any], **more: Any) -> Graph:
    return Graph.model_validate({"inputs": INPUT, "nodes": nodes, "outputs": [nodes[-1]["outputs"][0]], **more})


def call(operator: str, *arguments: object, outputs: tuple[str, ...] = ("y",), **options: object) -> dict[str, Any]:
    return {"kind": "call", "operator": operator, "arguments": arguments, "options": options, "outputs": outputs}


X = {"value": "x"}


def run(described: Graph, *inputs: torch.Tensor) -> Any:
    return GraphNetwork(described).eval()(*inputs)


def test_arguments_of_every_kind_reach_the_operator() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    chunks = graph(
        call("split.Tensor", X, 3, 1, outputs=("a", "b")),
        call("cat.default", ({"value": "b"}, {"value": "a"}), 1, outputs=("c",)),
        call("masked_fill.Scalar", {"value": "c"}, {"weight": "hidden.mask"}, {"number": "-inf"}, outputs=("d",)),
        call("softmax.int", {"value": "d"}, 1, {"dtype": "float64"}),
        weights={"hidden.mask": {"shape": (4,), "dtype": {"dtype": "bool"}}},
    )
    network = GraphNetwork(chunks)
    network.load_state_dict({"hidden.mask": torch.tensor([True, False, True, False])})
    expected = torch.tensor([-torch.inf, 1.0, -torch.inf, 3.0]).softmax(0, torch.float64)
    assert torch.equal(network(x)[0], expected)


def test_sizes_are_computed_with_the_batch() -> None:
    described = graph(
        call("sym_size.int", X, 0, outputs=("n",)),
        call("size.mul", {"value": "n"}, 2, outputs=("m",)),
        call("view.default", X, ({"value": "m"}, 2)),
    )
    assert run(described, torch.zeros(3, 4)).shape == (6, 2)


def test_a_value_lives_no_longer_than_it_is_needed() -> None:
    described = graph(
        call("relu.default", X, outputs=("a",)),
        call("neg.default", {"value": "a"}, outputs=("b",)),
        call("exp.default", {"value": "b"}),
    )
    network = GraphNetwork(described)
    assert [spent for _, spent in network._modelpress_plan.steps] == [["x"], ["a"], ["b"]]


@pytest.mark.parametrize(
    ("nodes", "more", "message"),
    [
        ([call("system.default", X)], {}, "not known here: system.default"),
        (
            [{"kind": "layer", "layer": "a", "inputs": [X], "outputs": ["y"]}],
            {"layers": {"a": {"type": "Lambda"}}},
            "Lambda",
        ),
        (
            [{"kind": "layer", "layer": "a", "inputs": [X], "outputs": ["y"]}],
            {"layers": {"a": {"type": "Linear", "arguments": {"in_features": 4}}}},
            "layer 'a', a Linear, cannot be built",
        ),
        (
            [{"kind": "layer", "layer": "forward", "inputs": [X], "outputs": ["y"]}],
            {"layers": {"forward": {"type": "ReLU"}}},
            "'forward', which torch cannot hold",
        ),
        ([call("add.Tensor", X, {"weight": "w"})], {}, "uses a weight 'w', which it has not"),
        ([call("add.Tensor", X, {"weight": "__class__"})], {}, "which it has not"),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(nodes: list[Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        GraphNetwork(graph(*nodes, **more))


def test_a_graph_that_would_fill_the_memory_is_refused() -> None:
    large = graph(
        {"kind": "layer", "layer": "a", "inputs": [X], "outputs": ["y"]},
        layers={"a": {"type": "Linear", "arguments": {"in_features": 4, "out_features": 10**10}}},
    )
    with pytest.raises(InvalidModel, match="more than 1,000,000,000 parameters"):
        rebuild(NetworkDescription(architecture=large, input_shape=(1, 2, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": ["z"]}, "is given by no node"),
        ({"nodes": [call("relu.default", {"value": "y"})]}, "nothing before it gave"),
        ({"nodes": [call("relu.default", X, outputs=("x",))]}, "two nodes give 'x'"),
        ({"nodes": [{"kind": "layer", "layer": "a", "inputs": [X], "outputs": ["y"]}]}, "which the graph has not"),
        ({"nodes": [call("relu.default", X)] * (MOST_NODES + 1)}, "at most"),
        ({"inputs": {}}, "at least 1"),
        ({"inputs": {"x y": {"shape": (0, 4)}}}, "match pattern"),
    ],
)
def test_a_graph_that_makes_no_sense_is_no_graph(change: dict[str, Any], message: str) -> None:
    sound = {"inputs": INPUT, "nodes": [call("relu.default", X)], "outputs": ["y"]}
    Graph.model_validate(sound)
    with pytest.raises(ValidationError, match=message):
        Graph.model_validate({**sound, **change})


def test_a_layer_may_have_others_below_it() -> None:
    layers = {"outer.inner": {"type": "Linear", "arguments": {"in_features": 4, "out_features": 3}}}
    layers["outer"] = {"type": "Linear", "arguments": {"in_features": 3, "out_features": 2}}
    nodes = [
        {"kind": "layer", "layer": "outer.inner", "inputs": [{"value": "x"}], "outputs": ["h"]},
        {"kind": "layer", "layer": "outer", "inputs": [{"value": "h"}], "outputs": ["y"]},
    ]
    network = GraphNetwork(Graph.model_validate({"inputs": INPUT, "layers": layers, "nodes": nodes, "outputs": ["y"]}))
    names = {f"{layer}.{weight}" for layer in layers for weight in ("weight", "bias")}
    assert network.state_dict().keys() == names
    assert network(torch.rand(5, 4)).shape == (5, 2)
