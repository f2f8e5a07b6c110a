"""timm's networks: all of them by their own names, and small ones through all that is done with a network."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from pydantic import JsonValue, TypeAdapter
from torch import nn

from modelpress.engine.architectures.registry import build, input_shape, own_preprocessing
from modelpress.engine.distill.step import build_student
from modelpress.engine.formats.load import load_network
from modelpress.engine.formats.registry import WRITERS
from modelpress.engine.inspect_model import inspect_model
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.engine.steps import STEPS, StepContext
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.failure import InvalidModel
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Step
from modelpress.spec.timm_networks import TIMM_NETWORKS
from tests.engine.test_original import model_file
from tests.support.networks import describe, network
from tests.support.timm_networks import listed

import modelpress.engine.architectures.torchvision  # noqa: F401  isort: skip  # declares what the next import needs
import timm  # isort: skip


def reference(name: str, **arguments: JsonValue) -> ArchitectureRef:
    return ArchitectureRef(architecture=f"timm/{name}", arguments=arguments)


def test_the_specs_list_is_timms() -> None:
    assert {facts: names.split() for facts, names in TIMM_NETWORKS.items()} == listed()


def test_facts_are_those_of_timms_default_weights() -> None:
    entry = ARCHITECTURES["timm/vit_base_patch16_224"]
    assert (entry.family, entry.input_shape) == ("timm", (3, 224, 224))
    assert entry.arguments == {"num_classes": 1000, "in_chans": 3}
    # Augreg's weights were trained with 0.5 and 0.5, ResNet's with ImageNet's own.
    assert own_preprocessing(reference("vit_base_patch16_224")) == Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)
    imagenet = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert own_preprocessing(reference("resnet50")) == imagenet
    assert own_preprocessing(reference("resnet50", in_chans=1)) is None


def test_input_shapes_follow_the_arguments() -> None:
    assert input_shape(reference("test_vit", img_size=[32, 64], in_chans=1)) == (1, 32, 64)
    assert input_shape(reference("test_vit", img_size=32)) == (3, 32, 32)
    assert input_shape(reference("resnet18"), 96) == (3, 96, 96)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("resnet18", {"pretrained": True}, "it takes no argument `pretrained`; of timm's, num_classes, in_chans,"),
        ("resnet18", {"pretrained_cfg": {"url": "http://x"}}, "no argument `pretrained_cfg`"),
        ("resnet18", {"pretrained_cfg_overlay": {}}, "no argument `pretrained_cfg_overlay`"),
        ("resnet18", {"checkpoint_path": "/etc/passwd"}, "no argument `checkpoint_path`"),
        ("resnet18", {"cache_dir": "/"}, "no argument `cache_dir`"),
        ("resnet18", {"features_only": True}, "no argument `features_only`"),
        ("resnet18", {"norm_layer": "batchnorm"}, "no argument `norm_layer`"),
        ("resnet18", {"num_classes": 0}, "`num_classes` must be a whole number of at least 1, not 0"),
        ("resnet18", {"in_chans": True}, "`in_chans` must be a whole number"),
        ("resnet18", {"drop_rate": 1}, "`drop_rate` must be a number from 0 to below 1"),
        ("resnet18", {"global_pool": "sum"}, "`global_pool` must be one of avg, max,"),
        ("resnet18", {"global_pool": ["avg"]}, "`global_pool` must be one of avg, max,"),
        ("test_vit", {"img_size": 1025}, "`img_size` must be one whole number, or height and width, of at most 1024"),
        ("test_vit", {"img_size": [32, 32, 32]}, "`img_size` must be one whole number"),
        ("resnet18", {"img_size": 64}, "cannot be built with img_size=64: TypeError"),
        ("resnet18", {"num_classes": 10**9}, "more than 1,000,000,000 parameters"),
        ("test_vit", {"in_chans": 10**9}, "more than 1,000,000,000 parameters"),
    ],
)
def test_arguments_that_cannot_be_taken_are_named(name: str, arguments: dict[str, JsonValue], text: str) -> None:
    with pytest.raises(InvalidModel) as raised:
        build(reference(name, **arguments))
    assert f"timm/{name}" in raised.value.message
    assert text in raised.value.message


@pytest.mark.parametrize(
    "name",
    ["timm/hf-hub:timm/resnet18.a1_in1k", "hf-hub:timm/resnet18", "timm/local-dir:/tmp", "timm/resnet18.a1_in1k"],
)
def test_names_that_stand_for_other_places_are_none(name: str) -> None:
    with pytest.raises(InvalidModel, match="there is no architecture"):
        build(ArchitectureRef(architecture=name))


def test_nothing_is_asked_of_a_network_of_computers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build(reference("test_resnet"))


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InvalidModel, match=r'pip install "modelpress\[timm\]"'):
        build(reference("resnet18"))


def test_a_network_that_another_timm_has_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "is_model", lambda name: False)
    with pytest.raises(InvalidModel, match=rf"{timm.__version__}, has no network 'resnet18'"):
        build(reference("resnet18"))


# Arguments that keep them small; each is of a kind of its own: plain, with norms that activate, with attention, with
# layer norms, with windows, with gates, with standardised weights, with padding that follows the input.
SMALL: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_vit": {"img_size": 32},
    "test_convnext": {},
    "test_vit_relpos": {"img_size": 32},
    "test_byobnet": {},
    "test_nfnet": {},
    "tf_mobilenetv3_small_minimal_100": {},
}


def uploaded(name: str, folder: Path, **more: Any) -> Any:
    """A file as a user of timm has it, and what is said of it."""
    arguments = {"num_classes": 5, **SMALL[name]}
    torch.manual_seed(0)
    torch.save(timm.create_model(name, **arguments).state_dict(), folder / "model.pt")
    return model_file("model.pt", f"timm/{name}", arguments=arguments, image_size=32, **more)


@pytest.mark.parametrize("name", SMALL)
def test_small_ones_are_what_timm_makes_of_the_same_file(name: str, tmp_path: Path) -> None:
    file = uploaded(name, tmp_path)
    found = inspect_model(file, tmp_path)
    module = timm.create_model(name, num_classes=5, **SMALL[name]).eval()
    module.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert found.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert (found.num_classes, found.network.input_shape) == (5, (3, 32, 32))
    assert found.network.preprocessing is not None
    assert found.network.preprocessing.mean == timm.get_pretrained_cfg(name).mean
    (note,) = found.notes
    assert "as the makers of the network do" in note
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_original(file, tmp_path).module(images), module(images))


def test_what_the_owner_says_of_the_pixels_goes_before_timms(tmp_path: Path) -> None:
    own = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1, 1, 1))
    found = inspect_model(uploaded("test_vit", tmp_path, preprocessing=own), tmp_path)
    assert (found.network.preprocessing, found.notes) == (own, ())


STEP: TypeAdapter[Any] = TypeAdapter(Step)
STEPS_TRIED: list[dict[str, Any]] = [
    {"kind": "prune", "sparsity": 0.5},
    {"kind": "prune_channels", "target": {"kind": "channels", "removed": 0.25}},
    {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.25}},
    {"kind": "quantize", "bits": 8},
]


def same(module: nn.Module, other: nn.Module) -> bool:
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        return torch.equal(module.eval()(images), other.eval()(images))


def small(name: str) -> Network:
    return network(describe(f"timm/{name}", image_size=32, num_classes=5, **SMALL[name]))


# The others take longer for the same. test_nfnet keeps one gain per output channel beside each kernel.
LEFT_OUT: dict[str, set[str]] = {
    "test_resnet": set(),
    "test_efficientnet": set(),
    "test_vit": set(),
    "test_convnext": set(),
    "test_nfnet": {"prune", "factorize", "quantize"},
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_small_ones_go_through_steps_and_back_from_the_files(name: str, tmp_path: Path) -> None:
    original = small(name)
    context = StepContext(original=original, data=None, device=torch.device("cpu"), seed=0)
    for values in STEPS_TRIED:
        if values["kind"] in LEFT_OUT[name]:
            continue
        step = STEP.validate_python(values)
        result = STEPS[step.kind](original, step, context).network
        assert not same(original.module, result.module), step.kind
        for kind in ("compact", "safetensors"):
            WRITERS[kind](result, tmp_path / "file")
            assert same(load_network(tmp_path / "file").module, result.module), (step.kind, kind)


def test_a_small_one_is_written_as_onnx(tmp_path: Path) -> None:
    original = small("test_vit")
    WRITERS["onnx"](original, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = torch.randn(3, 3, 32, 32)
    with torch.inference_mode():
        wanted = original.module(images)
    (scores,) = session.run(None, {"images": images.numpy()})
    assert torch.allclose(torch.from_numpy(scores), wanted, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_timms_own_saver_is_read(tmp_path: Path) -> None:
    """With its arguments as an argparse.Namespace, an optimizer, and an averaged copy beside the weights."""
    module = timm.create_model("test_vit", num_classes=5, img_size=32)
    averaged = timm.utils.ModelEmaV3(module, decay=0.5)
    with torch.no_grad():
        module.head.bias.add_(1)
    averaged.update(module)
    saver = timm.utils.CheckpointSaver(
        module,
        torch.optim.AdamW(module.parameters()),
        args=argparse.Namespace(model="test_vit", lr=0.1, output=Path("runs")),
        model_ema=averaged,
        checkpoint_dir=str(tmp_path),
    )
    saver.save_checkpoint(epoch=1, metric=0.5)
    file = model_file("last.pth.tar", "timm/test_vit", arguments={"num_classes": 5, "img_size": 32})
    notes: list[str] = []
    read = load_original(file, tmp_path, notes.append)
    assert torch.equal(read.module.get_parameter("head.bias"), module.head.bias)
    assert any("`state_dict_ema`" in note and "averaged" in note for note in notes)


def test_a_student_has_the_originals_outputs_and_channels() -> None:
    original = network(describe("snn_1k", in_channels=1, num_classes=7))
    original.description = original.description.model_copy(
        update={"preprocessing": Preprocessing(mean=(0.5,), std=(0.25,))}
    )
    context = StepContext(original=original, data=None, device=torch.device("cpu"), seed=0)
    student = build_student(original.description, reference("test_resnet"), 7, context)
    assert student.description.architecture.arguments == {"num_classes": 7, "in_chans": 1}
    assert student.module(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    assert student.description.preprocessing == original.description.preprocessing
