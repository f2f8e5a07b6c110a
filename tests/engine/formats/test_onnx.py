"""The ONNX artifact, run by onnxruntime against the module."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from modelpress.engine.formats import onnx as onnx_format
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import FactorizedLayer, NetworkDescription
from tests.support.networks import describe, network

FACTORIZED = describe(
    "vgg11_bn_cifar",
    FactorizedLayer(layer="features.4", scheme="vertical_horizontal", rank=5),
    FactorizedLayer(layer="features.8", scheme="channel_svd", rank=3),
    FactorizedLayer(layer="classifier.1", scheme="svd", rank=4),
    width=0.2,
)


def scores(path: Path, images: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(["scores"], {"images": images.numpy()})[0]
    return found


@pytest.mark.parametrize(
    "description",
    [
        FACTORIZED,
        describe("nin_cifar"),
        describe("resnet20_cifar", in_channels=1),
        describe("resnet11_cifar"),
        describe("convnet8_cifar"),
        describe("alexnet_cifar"),
        describe("cnn_1k"),
        describe("mobilenet_v3_small", image_size=32, num_classes=7),
        describe("googlenet", image_size=64, num_classes=7),
    ],
    ids=["factorized", "nin", "resnet", "resnet11", "convnet8", "alexnet", "cnn", "mobilenet", "googlenet"],
)
@pytest.mark.slow
def test_outputs_are_the_modules_at_any_batch(description: NetworkDescription, tmp_path: Path) -> None:
    original = network(description)
    onnx_format.write(original, tmp_path / "model.onnx")
    for batch in (1, 5):
        images = torch.randn(batch, *description.input_shape, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = original.module(images)
        torch.testing.assert_close(
            torch.from_numpy(scores(tmp_path / "model.onnx", images)), expected, rtol=1e-4, atol=1e-4
        )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        onnx_format.write(network(FACTORIZED), path)
    return path


def test_it_is_one_valid_file_with_weights_inside(written: Path) -> None:
    assert [path.name for path in written.parent.iterdir()] == ["model.onnx"]
    model = onnx.load(str(written), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_names_and_shapes(written: Path) -> None:
    graph = onnx.load(str(written)).graph
    [images], [found] = graph.input, graph.output
    assert (images.name, found.name) == ("images", "scores")
    dimensions = images.type.tensor_type.shape.dim
    assert dimensions[0].dim_param
    assert [dimension.dim_value for dimension in dimensions[1:]] == [3, 32, 32]
    assert found.type.tensor_type.shape.dim[1].dim_value == 10


def test_it_says_nothing_of_the_machine_that_made_it(written: Path) -> None:
    model = onnx.load(str(written))
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    content = written.read_bytes()
    for trace in (b"site-packages", b"modelpress", b".py", str(Path.home()).encode() + b"/", b"pkg."):
        assert trace not in content


def test_bytes_are_the_same_each_time(written: Path, tmp_path: Path) -> None:
    onnx_format.write(network(FACTORIZED), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == written.read_bytes()


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    original = network(describe("snn_1k"))
    original.module.train()
    original.module.to(memory_format=torch.channels_last)
    onnx_format.write(original, tmp_path / "model.onnx")
    assert all(module.training for module in original.module.modules())
    assert original.module.features[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_beyond_one_file_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = torch.nn.Linear(30_000, 20_000)  # 2.4 GB
    with pytest.raises(IncompatibleSpec, match="ask for other artifacts \\(compact, safetensors\\)"):
        onnx_format.write(Network(module, describe("snn_1k")), tmp_path / "model.onnx")
