"""The model that a user brought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelpress.engine.original import load_original
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import ModelFile
from tests.support.networks import describe, network


def model_file(path: str, architecture: str, **more: Any) -> ModelFile:
    arguments = more.pop("arguments", {})
    ref = ArchitectureRef(architecture=architecture, arguments=arguments)
    return ModelFile(**{"path": path, "format": "pt", "architecture": ref, "sha256": "", **more})


@pytest.mark.parametrize("format", ["pt", "safetensors"])
def test_the_files_weights_are_in_the_named_network(format: str, tmp_path: Path) -> None:
    trained = network(describe("resnet20_cifar", num_classes=4))
    (tmp_path / "inputs").mkdir()
    save = torch.save if format == "pt" else save_file
    save(trained.module.state_dict(), tmp_path / "inputs" / "model")
    preprocessing = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    read = load_original(
        model_file(
            "inputs/model",
            "resnet20_cifar",
            arguments={"num_classes": 4},
            format=format,
            image_size=48,
            preprocessing=preprocessing,
        ),
        tmp_path,
    )
    assert not read.module.training
    assert read.masks == {}
    assert read.description.input_shape == (3, 48, 48)
    assert read.description.preprocessing == preprocessing
    assert read.description.architecture.arguments == {"num_classes": 4}
    images = torch.randn(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(read.module(images), trained.module(images))


def test_the_architectures_own_image_size_is_taken(tmp_path: Path) -> None:
    torch.save(network(describe("snn_1k", in_channels=1)).module.state_dict(), tmp_path / "model.pt")
    read = load_original(model_file("model.pt", "snn_1k", arguments={"in_channels": 1}), tmp_path)
    assert read.description.input_shape == (1, 32, 32)
    assert read.description.preprocessing is None


def test_half_precision_becomes_fp32(tmp_path: Path) -> None:
    torch.save(network(describe("snn_1k")).module.half().state_dict(), tmp_path / "model.pt")
    module = load_original(model_file("model.pt", "snn_1k"), tmp_path).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_another_architectures_weights_are_refused_by_key_and_shape(tmp_path: Path) -> None:
    torch.save(network(describe("cnn_1k")).module.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InvalidModel) as raised:
        load_original(model_file("model.pt", "snn_1k"), tmp_path)
    message = raised.value.message
    assert "architecture 'snn_1k'" in message
    assert "2 keys unexpected: classifier.4.weight, classifier.4.bias" in message
    assert "classifier.2.weight (file has (84, 1000), it takes (10, 1000))" in message


def test_preprocessing_of_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    torch.save(network(describe("snn_1k")).module.state_dict(), tmp_path / "model.pt")
    grey = Preprocessing(mean=(0.5,), std=(0.5,))
    with pytest.raises(InvalidModel, match="1 means and 1 standard deviations, the model takes images of 3 channels"):
        load_original(model_file("model.pt", "snn_1k", preprocessing=grey), tmp_path)
