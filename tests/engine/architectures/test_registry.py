"""The registry: every name of the spec can be built, bad arguments are refused in words."""

from __future__ import annotations

import pytest
import torch
from pydantic import JsonValue

from modelpress.engine.architectures.registry import BUILDERS, build, input_shape
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.failure import InvalidModel

OWN = [name for name, entry in ARCHITECTURES.items() if entry.family == "modelpress"]


def test_the_specs_list_is_the_registrys() -> None:
    assert sorted(OWN) == sorted(BUILDERS)


@pytest.mark.parametrize("name", OWN)
def test_every_own_architecture_takes_the_arguments_and_the_shape_of_the_spec(name: str) -> None:
    entry = ARCHITECTURES[name]
    with torch.device("meta"):  # shapes alone
        module = build(ArchitectureRef(architecture=name, arguments=entry.arguments)).eval()
        defaults = build(ArchitectureRef(architecture=name))
    shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in defaults.state_dict().items()}
    with torch.inference_mode():
        assert module(torch.zeros(2, *entry.input_shape, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", OWN)
def test_every_own_architecture_takes_other_classes_and_channels(name: str) -> None:
    with torch.device("meta"):
        module = build(ArchitectureRef(architecture=name, arguments={"num_classes": 4, "in_channels": 1})).eval()
        assert module(torch.zeros(2, 1, 32, 32)).shape == (2, 4)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("vgg19", {"num_classes": -1}, "`num_classes` must be a whole number of at least 1, not -1"),
        ("no_such", {}, "there is no architecture 'no_such'"),
        ("nin_cifar", {"width": 0.5}, "it has no argument `width`; its arguments are num_classes, in_channels"),
        ("nin_cifar", {"num_classes": 10.5}, "`num_classes` must be a whole number of at least 1, not 10.5"),
        ("nin_cifar", {"in_channels": "3"}, "`in_channels` must be a whole number"),
        ("nin_cifar", {"in_channels": None}, "`in_channels` must be a whole number"),
        ("nin_cifar", {"num_classes": True}, "`num_classes` must be a whole number"),
        ("vgg11_cifar", {"width": 0}, "`width` must be a number above 0"),
        ("vgg11_cifar", {"width": [1]}, "`width` must be a number above 0"),
        ("vgg11_cifar", {"width": 1e300}, "`width` must be a number above 0"),
        ("vgg11_cifar", {"width": 1000}, "more than 1,000,000,000 parameters"),
        ("snn_1k", {"num_classes": 10**9}, "more than 1,000,000,000 parameters"),
        ("snn_1k", {"num_classes": 10**30}, "cannot be built with num_classes=1000"),
    ],
)
def test_what_cannot_be_built_is_said(name: str, arguments: dict[str, JsonValue], text: str) -> None:
    with pytest.raises(InvalidModel) as raised:
        build(ArchitectureRef(architecture=name, arguments=arguments))
    assert text in raised.value.message


@pytest.mark.parametrize(
    ("name", "arguments", "image_size", "shape"),
    [
        ("nin_cifar", {}, None, (3, 32, 32)),
        ("resnet20_cifar", {"in_channels": 1}, 28, (1, 28, 28)),
        ("resnet18", {}, None, (3, 224, 224)),
        ("inception_v3", {}, None, (3, 299, 299)),
        ("vit_b_16", {"image_size": 64}, None, (3, 64, 64)),
        ("maxvit_t", {"input_size": [224, 448]}, None, (3, 224, 448)),
        ("resnet18", {}, 64, (3, 64, 64)),
    ],
)
def test_input_shape(
    name: str, arguments: dict[str, JsonValue], image_size: int | None, shape: tuple[int, int, int]
) -> None:
    assert input_shape(ArchitectureRef(architecture=name, arguments=arguments), image_size) == shape


@pytest.mark.parametrize("image_size", [0, -3, 100_000])
def test_absurd_image_sizes_are_refused(image_size: int) -> None:
    with pytest.raises(InvalidModel, match="image size from 1 to 4096"):
        input_shape(ArchitectureRef(architecture="resnet18"), image_size)
