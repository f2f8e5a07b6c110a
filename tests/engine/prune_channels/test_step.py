"""Channels leave the network as torch-pruning takes them out, and files give the same network back."""

from __future__ import annotations

import copy
from pathlib import Path

import onnxruntime
import pytest
import torch
import torch_pruning as tp
from torch import nn

from modelpress.engine.formats import compact, onnx, safetensors
from modelpress.engine.measure import count_macs, count_parameters
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune.step import prune
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.step import StepResult
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.steps import LayerSelection, Prune
from modelpress.spec.steps.prune_channels import ChannelTarget, PruneChannels
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def vgg() -> Network:
    return network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3))


def run(original: Network, removed: float = 0.3, kind: str = "channels", **options: object) -> StepResult:
    step = PruneChannels.model_validate({"target": {"kind": kind, "removed": removed}, **options})
    return prune_channels(original, step, context(original))


def weight_of(module: nn.Module, name: str) -> torch.Tensor:
    return module.get_parameter(f"{name}.weight").detach()


def smallest(module: nn.Module, name: str, count: int) -> list[int]:
    """Channels of the least L2 norm, written out."""
    norms = [float((row.double() ** 2).sum()) for row in weight_of(module, name)]
    return sorted(range(len(norms)), key=lambda channel: norms[channel])[:count]


@pytest.mark.parametrize(
    ("architecture", "root"),
    [("vgg11_bn_cifar", "features.4"), ("resnet20_cifar", "layer2.1.conv1"), ("nin_cifar", "features.8")],
)
def test_it_is_what_torch_pruning_makes_of_the_same_channels(architecture: str, root: str) -> None:
    arguments = {"width": 0.125} if architecture.startswith("vgg") else {}
    original = network(describe(architecture, **arguments))
    result = run(original, 0.25, scope="local", layers=LayerSelection(include=(root,))).network
    expected = copy.deepcopy(original.module).requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(expected, IMAGES)
    layer = expected.get_submodule(root)
    count = len(weight_of(original.module, root)) // 4
    graph.get_pruning_group(layer, tp.prune_conv_out_channels, smallest(original.module, root, count)).prune()
    states = result.module.state_dict(), expected.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    with torch.no_grad():
        torch.testing.assert_close(result.module(IMAGES), expected(IMAGES))
    assert count_parameters(result.module) < count_parameters(original.module)


def test_without_norms_it_gives_what_channels_of_zeros_give() -> None:
    original = network(describe("nin_cifar", num_classes=3))
    before = copy.deepcopy(original.module.state_dict())
    result = run(original, 0.5, scope="local", layers=LayerSelection(include=("features.0", "features.8")))
    zeros = copy.deepcopy(original.module)
    with torch.no_grad():
        for name in ("features.0", "features.8"):
            gone = smallest(original.module, name, len(weight_of(zeros, name)) // 2)
            zeros.get_parameter(f"{name}.weight")[gone] = 0
            zeros.get_parameter(f"{name}.bias")[gone] = 0
        torch.testing.assert_close(result.network.module(IMAGES), zeros(IMAGES), rtol=1e-4, atol=1e-5)
    assert weight_of(result.network.module, "features.2").shape == (160, 96, 1, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())


@pytest.mark.parametrize("kind", ["channels", "parameters", "macs"])
@pytest.mark.parametrize("scope", ["global", "local"])
def test_the_target_is_reached_and_hardly_passed(kind: str, scope: str) -> None:
    original = vgg()
    result = run(original, 0.4, kind, scope=scope)
    if kind == "channels":
        # Every layer but the last: its three outputs are the classes.
        sizes = [[len(weight_of(one.module, name)) for name in names_of(one)] for one in (original, result.network)]
        total, gone = sum(sizes[0]), sum(sizes[0]) - sum(sizes[1])
        assert gone == -(-2 * total // 5)
    else:
        counts = [
            count_parameters(one.module) if kind == "parameters" else count_macs(one.module, (3, 32, 32))
            for one in (original, result.network)
        ]
        assert 0.4 <= 1 - counts[1] / counts[0] < 0.5
    assert [skip.name for skip in result.skipped] == ["classifier.6"]
    assert "the network's outputs" in result.skipped[0].reason


def names_of(one: Network) -> list[str]:
    layers = (nn.Conv2d, nn.Linear)
    return [name for name, layer in one.module.named_modules() if isinstance(layer, layers) and name != "classifier.6"]


@pytest.mark.parametrize("criterion", ["l1", "bn_scale", "random"])
def test_layers_keep_multiples_and_no_less_than_their_share(criterion: str) -> None:
    original = network(describe("vgg11_bn_cifar", width=0.125, num_classes=3))
    result = run(original, 0.3, round_to=4, max_layer_share=0.5, criterion=criterion).network
    changed = 0
    for name in names_of(original):
        before, after = len(weight_of(original.module, name)), len(weight_of(result.module, name))
        assert after == before or after % 4 == 0
        assert 2 * after >= before
        changed += after < before
    assert changed > 0


def test_batch_norm_factors_decide() -> None:
    original = vgg()
    with torch.no_grad():
        original.module.get_parameter("features.1.weight").copy_(torch.tensor([3.0, -0.1, 2.0, 0.5]))
        weight = original.module.get_parameter("features.0.weight").clone()
    result = run(original, 0.5, criterion="bn_scale", layers=LayerSelection(include=("features.0",)))
    assert torch.equal(weight_of(result.network.module, "features.0"), weight[[0, 2]])


def test_the_residual_stream_that_cannot_be_followed_stays_and_is_named() -> None:
    original = network(describe("resnet20_cifar", num_classes=3))
    result = run(original, 0.5)
    changed = {change.name for change in result.layers}
    for block in (f"layer{group}.{number}" for group in (1, 2, 3) for number in (0, 1, 2)):
        assert f"{block}.conv1" in changed
    skipped = {skip.name: skip.reason for skip in result.skipped}
    stream = {name for name, layer in original.module.named_modules() if isinstance(layer, nn.Conv2d)}
    stream -= {name for name in stream if name.endswith(".conv1") and "." in name}
    assert stream < set(skipped)
    unfit = "torch-pruning cannot follow its channels through the network"
    assert {skipped[name] for name in stream} == {unfit}
    assert {name: reason for name, reason in skipped.items() if name not in stream} == {
        "linear": "its channels are the network's outputs"
    }
    assert result.network.module(IMAGES).shape == (2, 3)


def test_files_give_the_same_network_back(tmp_path: Path) -> None:
    original = vgg()
    original.description = original.description.model_copy(
        update={"preprocessing": Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))}
    )
    result = run(original, 0.4).network
    with torch.no_grad():
        expected = result.module(IMAGES)
        for form, name in ((compact, "a.mpz"), (safetensors, "a.safetensors")):
            form.write(result, tmp_path / name)
            again = form.read(tmp_path / name)
            assert again.description == result.description
            assert torch.equal(again.module.eval()(IMAGES), expected)
    onnx.write(result, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"])
    outputs = torch.cat([torch.from_numpy(session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})[0])])
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
    text = result.description.model_dump_json()
    rebuild(NetworkDescription.model_validate_json(text)).load_state_dict(result.module.state_dict())


def test_a_second_time_and_depthwise_layers() -> None:
    original = network(describe("mobilenet_v2", image_size=32, num_classes=3, width_mult=0.1))
    once = run(original, 0.2, scope="local").network
    twice = run(once, 0.2, scope="local").network
    again = rebuild(twice.description).eval()
    again.load_state_dict(twice.module.state_dict())
    with torch.no_grad():
        assert torch.equal(again(IMAGES), twice.module(IMAGES))
    narrowed = [layer for layer in again.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert narrowed
    assert all(layer.groups == layer.in_channels == layer.out_channels for layer in narrowed)
    assert count_parameters(twice.module) < count_parameters(once.module) < count_parameters(original.module)


def test_masks_and_grids_follow_and_training_keeps_them() -> None:
    original = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    pruned = prune(original, Prune(sparsity=0.5, scope="layer"), context(original)).network
    weight = weight_of(pruned.module, "features.4")
    levels = torch.arange(-127.0, 128.0)
    pruned.grids["features.4.weight"] = grid = Grid(levels, weight.flatten(1).abs().amax(1).clamp(min=0.01) / 127)
    step = PruneChannels(
        target=ChannelTarget(kind="channels", removed=0.3), training=Recovery(epochs=1, batch_size=8, precision="fp32")
    )
    result = prune_channels(pruned, step, context(original, noise(8, size=32, heldout=2))).network
    assert set(result.masks) == set(pruned.masks)
    for name, mask in result.masks.items():
        weight = result.module.get_parameter(name)
        assert mask.shape == weight.shape
        assert not bool(weight[~mask].any())
        assert bool((~mask).any())
    held = result.grids["features.4.weight"]
    assert len(held.scales) == len(weight_of(result.module, "features.4")) < len(grid.scales)
    torch.testing.assert_close(
        held.nearest(weight_of(result.module, "features.4")), weight_of(result.module, "features.4")
    )


def test_what_cannot_be_done_is_refused() -> None:
    original = vgg()
    with pytest.raises(IncompatibleSpec, match=r"at most .* of the parameters can be removed"):
        run(original, 0.9, "parameters", max_layer_share=0.3)
    with pytest.raises(IncompatibleSpec, match="no layer matches 'conv"):
        run(original, layers=LayerSelection(include=("conv*",)))
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        run(original, training=Recovery())
    with pytest.raises(IncompatibleSpec, match="none of the channels"):
        run(original, layers=LayerSelection(include=("classifier.6",)))
