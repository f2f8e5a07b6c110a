"""The model that a user brought."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelpress.engine.factorize.step import factorize
from modelpress.engine.finetune.step import finetune
from modelpress.engine.formats.registry import WRITERS
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import CropCentre, NetworkDescription, Preprocessing
from modelpress.spec.steps import Factorize, Finetune, Prune, Quantize, RankNumber
from modelpress.spec.task import ModelFile
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network


def model_file(path: str, architecture: str | None = None, **more: Any) -> ModelFile:
    arguments = more.pop("arguments", {})
    ref = None if architecture is None else ArchitectureRef(architecture=architecture, arguments=arguments)
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


def test_an_image_that_is_smaller_than_what_is_cut_out_of_it_is_refused(tmp_path: Path) -> None:
    torch.save(network(describe("snn_1k")).module.state_dict(), tmp_path / "model.pt")
    resize = CropCentre(shorter_side=31)
    preprocessing = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3, resize=resize)
    with pytest.raises(InvalidModel, match=r"shorter side of 31 pixels.*takes 32 x 32.*at least 32"):
        load_original(model_file("model.pt", "snn_1k", preprocessing=preprocessing), tmp_path)


GREY = Preprocessing(mean=(0.25,), std=(0.5,))


def compressed(**more: Any) -> Network:
    """A small network after three steps, as a job would write it."""
    about = {"preprocessing": GREY, "classes": ("a", "b", "c"), **more}
    description = describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1).model_copy(update=about)
    made = network(description)
    for take, step in (
        (factorize, Factorize(rank=RankNumber(value=2))),
        (prune, Prune(sparsity=0.5)),
        (quantize, Quantize(bits=4)),
    ):
        made = take(made, step, context(made)).network
    return made


class TestDescribed:
    """A file that says itself which network it holds: an artifact of a job that comes in again."""

    @pytest.mark.parametrize("kind", [ArtifactKind.COMPACT, ArtifactKind.SAFETENSORS])
    def test_it_needs_no_architecture(self, kind: ArtifactKind, tmp_path: Path) -> None:
        made = compressed()
        WRITERS[kind](made, tmp_path / "model")
        read = load_original(model_file("model", format=kind.value), tmp_path)
        assert not read.module.training
        assert read.description == made.description
        assert len(read.description.edits) > 1
        assert set(read.grids) == (set(made.grids) if kind is ArtifactKind.COMPACT else set())
        images = torch.randn(2, 1, 32, 32)
        with torch.inference_mode():
            assert torch.equal(read.module(images), made.module(images))

    def test_a_later_training_leaves_its_zeros_and_its_grids_alone(self, tmp_path: Path) -> None:
        made = compressed()
        WRITERS[ArtifactKind.COMPACT](made, tmp_path / "model")
        read = load_original(model_file("model", format="compact"), tmp_path)
        zeros = {name: weight == 0 for name, weight in made.module.state_dict().items() if name in made.masks}
        assert torch.cat([zero.flatten() for zero in zeros.values()]).float().mean() >= 0.5
        brief = Recovery(epochs=1, batch_size=8, precision="fp32", learning_rate=0.1)
        trained = finetune(read, Finetune(training=brief), context(read, noise(8, size=32))).network
        state = trained.module.state_dict()
        assert any(not torch.equal(state[name], made.module.state_dict()[name]) for name in zeros)
        for name, zero in zeros.items():
            assert bool((state[name][zero] == 0).all())
            assert torch.equal(trained.grids[name].nearest(state[name]), state[name])

    def test_a_layer_without_a_zero_is_free(self, tmp_path: Path) -> None:
        WRITERS[ArtifactKind.SAFETENSORS](network(describe("snn_1k")), tmp_path / "model")
        assert load_original(model_file("model", format="safetensors"), tmp_path).masks == {}

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"architecture": "vgg13_bn_cifar"}, r"its architecture is vgg11_bn_cifar\(.*says vgg13_bn_cifar;"),
            ({"architecture": "vgg11_bn_cifar", "arguments": {"num_classes": 4}}, r"says .*num_classes=4"),
            ({"image_size": 48}, r"its image_size is 32 x 32, `image_size` says 48"),
            ({"preprocessing": Preprocessing(mean=(0,), std=(1,))}, r"`preprocessing` says mean \(0"),
        ],
    )
    def test_what_was_said_of_it_and_is_not_so_is_refused(
        self, said: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        WRITERS[ArtifactKind.COMPACT](compressed(), tmp_path / "model")
        with pytest.raises(InvalidModel, match=message):
            load_original(model_file("model", format="compact", **said), tmp_path)

    def test_what_was_said_of_it_and_is_so_is_taken(self, tmp_path: Path) -> None:
        made = compressed(preprocessing=None)
        WRITERS[ArtifactKind.COMPACT](made, tmp_path / "model")
        said = {"arguments": {"num_classes": 3}, "image_size": 32, "preprocessing": GREY}
        read = load_original(model_file("model", "vgg11_bn_cifar", format="compact", **said), tmp_path)
        assert read.description == made.description.model_copy(update={"preprocessing": GREY})

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"input_shape": (1, 1_000_000, 32)}, "1 x 1000000 x 32"),
            ({"input_shape": (1, 0, 32)}, "1 x 0 x 32"),
            ({"preprocessing": Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))}, "3 means"),
        ],
    )
    def test_a_description_that_makes_no_sense_is_refused(
        self, more: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        made = network(describe("vgg11_bn_cifar", width=0.0625, in_channels=1))
        made.description = NetworkDescription.model_validate(made.description.model_dump() | more)
        WRITERS[ArtifactKind.SAFETENSORS](made, tmp_path / "model")
        with pytest.raises(InvalidModel, match=message):
            load_original(model_file("model", format="safetensors"), tmp_path)

    def test_weights_alone_need_the_name_of_an_architecture(self, tmp_path: Path) -> None:
        torch.save(network(describe("snn_1k")).module.state_dict(), tmp_path / "model.pt")
        with pytest.raises(InvalidModel, match="upload it with the name of its architecture"):
            load_original(model_file("model.pt"), tmp_path)
