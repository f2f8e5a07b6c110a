"""torchvision's models: all of them, by their own names, sizes as torchvision publishes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import JsonValue
from torch.overrides import TorchFunctionMode

from modelpress.engine.architectures import torchvision as ours
from modelpress.engine.architectures.registry import build, own_preprocessing
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.failure import InvalidModel

# After ours, which declares the operators that the import needs.
from torchvision import models  # isort: skip

NAMES = models.list_models(module=models)


class Unfilled(TorchFunctionMode):
    """Parameters without memory, so that the largest models build in no time. Values computed on the way stay real."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **{**kwargs, "device": "meta"} if func in (torch.empty, torch.zeros, torch.ones) else kwargs)


def test_the_specs_list_is_torchvisions() -> None:
    listed = [name for name, entry in ARCHITECTURES.items() if entry.family == "torchvision"]
    assert listed == NAMES == ours.names()


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_its_published_size(name: str) -> None:
    # The published Inception counts its auxiliary head, the published GoogLeNet does not.
    arguments: dict[str, JsonValue] = {"aux_logits": True} if name == "inception_v3" else {}
    with Unfilled():
        module = build(ArchitectureRef(architecture=name, arguments=arguments))
    published = {weights.meta["num_params"] for weights in models.get_model_weights(name)}
    assert sum(p.numel() for p in module.parameters()) in published


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("alexnet", 64),
        ("convnext_tiny", 32),
        ("densenet121", 32),
        ("efficientnet_b0", 32),
        ("googlenet", 32),
        ("inception_v3", 96),
        ("maxvit_t", 224),
        ("mnasnet0_5", 32),
        ("mobilenet_v2", 32),
        ("mobilenet_v3_small", 32),
        ("regnet_x_400mf", 32),
        ("resnet18", 32),
        ("shufflenet_v2_x0_5", 32),
        ("squeezenet1_1", 32),
        ("swin_t", 32),
        ("swin_v2_t", 32),
        ("vgg11_bn", 32),
        ("vit_b_32", 224),
        ("wide_resnet50_2", 32),
    ],
)
def test_one_of_each_kind_gives_scores(name: str, size: int) -> None:
    module = build(ArchitectureRef(architecture=name, arguments={"num_classes": 7})).eval()
    with torch.inference_mode():
        assert module(torch.zeros(1, 3, size, size)).shape == (1, 7)


def test_auxiliary_heads_can_be_asked_for_and_give_one_tensor_in_evaluation() -> None:
    module = build(ArchitectureRef(architecture="googlenet", arguments={"aux_logits": True})).eval()
    assert any(name.startswith("aux1.") for name in module.state_dict())
    with torch.inference_mode():
        assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("resnet18", {"weights": "DEFAULT"}, "`weights` cannot be given"),
        ("resnet18", {"progress": True}, "`progress` cannot be given"),
        ("resnet18", {"norm_layer": "BatchNorm2d"}, "`norm_layer` takes Python code"),
        ("googlenet", {"blocks": []}, "`blocks` takes Python code"),
        ("resnet18", {"classes": 10}, "no argument `classes`; its arguments are num_classes, "),
        ("resnet18", {"layers": [1, 1, 1, 1]}, "no argument `layers`"),
        ("densenet121", {"growth_rate": 8}, "no argument `growth_rate`"),
        ("resnet18", {"width_per_group": {"a": 1}}, "`width_per_group` must be a number, a string"),
        ("resnet18", {"num_classes": "ten"}, "`num_classes` must be a whole number"),
        ("resnet18", {"num_classes": 0}, "`num_classes` must be a whole number"),
        ("resnet18", {"num_classes": True}, "`num_classes` must be a whole number"),
        ("resnet18", {"groups": 3}, "cannot be built with groups=3: ValueError: BasicBlock only supports"),
        ("resnet50", {"width_per_group": "wide"}, "cannot be built with width_per_group=wide"),
        ("resnet50", {"width_per_group": 10**30}, "cannot be built with width_per_group=1000"),
        ("mobilenet_v2", {"round_nearest": 0}, "ZeroDivisionError"),
        ("vit_b_16", {"image_size": 33}, "indivisible by patch size"),
        ("resnet18", {"num_classes": 10**9}, "more than 1,000,000,000 parameters"),
        ("swin_t", {"mlp_ratio": 1e9}, "more than 1,000,000,000 parameters"),
        ("mobilenet_v2", {"inverted_residual_setting": [[1, 16, 10**9, 1]]}, "more than 20,000 weight tensors"),
    ],
)
def test_arguments_that_cannot_be_taken_are_named(name: str, arguments: dict[str, JsonValue], text: str) -> None:
    with pytest.raises(InvalidModel) as raised:
        build(ArchitectureRef(architecture=name, arguments=arguments))
    assert name in raised.value.message
    assert text in raised.value.message
    assert "Traceback" not in raised.value.message


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilenet_v3_small", {"width_mult": 0.5, "num_classes": 3}),
        ("resnet18", {"zero_init_residual": True, "replace_stride_with_dilation": [False, False, False]}),
        ("efficientnet_b0", {"dropout": 0.1, "stochastic_depth_prob": 0.0}),
        ("mobilenet_v2", {"inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2]]}),
    ],
)
def test_own_arguments_are_taken(name: str, arguments: dict[str, JsonValue]) -> None:
    build(ArchitectureRef(architecture=name, arguments=arguments))


@pytest.mark.parametrize("name", [name for name, entry in ARCHITECTURES.items() if entry.family == "torchvision"])
def test_the_published_weights_were_trained_on_imagenet(name: str) -> None:
    found = own_preprocessing(ArchitectureRef(architecture=name))
    # ImageNet's own, as every model of torchvision has had them since its first.
    expected = {(0.485, 0.456, 0.406): (0.229, 0.224, 0.225), (0.5, 0.5, 0.5): (0.5, 0.5, 0.5)}
    assert found is not None
    assert expected[found.mean] == found.std
    assert found.resize is None


def test_weights_that_nobody_published_have_no_known_preprocessing() -> None:
    ours = ArchitectureRef(architecture="resnet18", arguments={"num_classes": 10})
    assert own_preprocessing(ours) is None
    assert own_preprocessing(ArchitectureRef(architecture="nin_cifar")) is None
