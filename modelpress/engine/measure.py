"""The figures of a network: parameters, multiply-accumulates, accuracy, memory.

Everything is measured in fp32 with TF32 off, so that an accuracy does not depend on the precision that a training
chose, and so that the figures of a CPU and of a GPU mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from modelpress.engine.scores import logits_of
from modelpress.spec.failure import Diverged
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Accuracy, Agreement

# Images of a batch: 256 of 32 x 32, 20 of 224 x 224, so that activations stay within some hundred megabytes.
_MOST_IMAGES = 256
_BATCH_PIXELS = 2**20


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters, shared ones once, trainable or not; buffers (running statistics) are not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_nonzero(module: nn.Module) -> int:
    """Elements of all parameters that are not exactly zero."""
    return sum(int(torch.count_nonzero(parameter)) for parameter in module.parameters())


def count_macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of one forward pass over one image of `input_shape` (C, H, W), in evaluation mode.

    Counts the products in convolutions, linear layers, matrix products and attention; zeros are counted, as no
    runtime skips them. A convolution has out_channels x in_channels / groups x kernel height x kernel width x output
    height x output width of them, a linear layer in_features x out_features.
    """
    return count_layer_macs(module, {}, input_shape)[0]


def count_layer_macs(
    module: nn.Module, layers: Mapping[str, nn.Module], input_shape: Sequence[int]
) -> tuple[int, dict[str, int]]:
    """`count_macs` of the module, and by name how much of it falls into the calls of each of its `layers`."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _lstm_flops})
    found = dict.fromkeys(layers, 0)

    def count(name: str, sign: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            found[name] += sign * counter.get_total_flops() // 2

        return hook

    # The fused attention of `nn.MultiheadAttention` and of the CPU has no formula in the counter: it would count as 0.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    hooks = [layer.register_forward_pre_hook(count(name, -1)) for name, layer in layers.items()]
    hooks += [layer.register_forward_hook(count(name, 1)) for name, layer in layers.items()]
    try:
        with evaluating(module), sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
            module(torch.zeros(1, *input_shape, device=_device_of(module)))
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2, found


def _lstm_flops(steps: Sequence[int], inputs: Sequence[int], states: Sequence[int], *_: object, **_more: object) -> int:
    """Of the CPU's fused LSTM, one layer in one direction, which torch's counter has no formula for: by the shapes of
    what it takes, (steps, batch, features) in either order, and of the kernels for inputs and states (4 units, ...).
    """
    return 2 * math.prod(steps[:2]) * (math.prod(inputs) + math.prod(states))


def normalise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pixels as a network takes them: uint8 (N, C, H, W) -> fp32 (x / 255 - mean) / std, on the same device."""
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device=images.device).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def batches(images: Tensor) -> Iterator[Tensor]:
    """Parts of (N, C, H, W), in order, of a size whose activations fit into little memory."""
    size = max(1, min(_MOST_IMAGES, _BATCH_PIXELS // (images.shape[-2] * images.shape[-1])))
    for start in range(0, len(images), size):
        yield images[start : start + size]


def evaluate(
    module: nn.Module,
    images: Tensor,
    labels: Tensor,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
) -> Accuracy:
    """Accuracy of `module` (already on `device`) on uint8 images (N, C, H, W) with labels (N,), in batches.

    Raises Diverged when the outputs are not finite numbers.
    """
    return accuracy_of(outputs_of(module, images, preprocessing, device), labels.cpu())


def outputs_of(module: nn.Module, images: Tensor, preprocessing: Preprocessing, device: torch.device | str) -> Tensor:
    """Class scores (N, classes), fp32 on the CPU, of `module` (on `device`) for uint8 images; see `logits_of`."""
    outputs = []
    with evaluating(module), exact_arithmetic(), torch.inference_mode():
        for batch in batches(images):
            outputs.append(logits_of(module, normalise(batch.to(device), preprocessing)))
    return torch.cat(outputs).cpu()


def accuracy_of(outputs: Tensor, labels: Tensor) -> Accuracy:
    """Accuracy from class scores (N, classes) and labels (N,). Raises Diverged unless all are finite."""
    broken = int((~torch.isfinite(outputs)).any(dim=1).sum())
    if broken:
        raise Diverged(
            f"the network's outputs for {broken} of {len(outputs)} held-out images are not finite numbers; "
            "check the weights, and lower the learning rate if a training came before"
        )
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices  # (N, 5)
    hits = best == labels[:, None]
    return Accuracy(
        top1=float(hits[:, 0].double().mean()),
        top5=float(hits.any(dim=1).double().mean()),
        loss=float(F.cross_entropy(outputs.double(), labels)),
        examples=len(labels),
    )


def agreement_of(original: Tensor, outputs: Tensor) -> Agreement:
    """How alike `outputs` are to the `original`'s, both class scores, finite and (N, classes)."""
    told, found = F.log_softmax(original.double(), dim=1), F.log_softmax(outputs.double(), dim=1)
    return Agreement(
        top1=float((original.argmax(1) == outputs.argmax(1)).double().mean()),
        # Never below zero but by rounding.
        kl=max(0.0, float((told.exp() * (told - found)).sum(1).mean())),
        examples=len(outputs),
    )


def reset_peak_memory(device: torch.device | str = "cpu") -> None:
    """Start `peak_memory` anew, where the system allows it."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak is then since the start of the process
        return


def peak_memory(device: torch.device | str = "cpu") -> int | None:
    """Most bytes held so far: by torch on the GPU, else by this process (VmHWM); None where the system does not say."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """`module` in evaluation mode; afterwards each submodule is in the mode it was in."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """True fp32 on GPUs: TF32, which cuDNN takes by default, keeps ten bits of each factor."""
    matmul = torch.backends.cuda.matmul.allow_tf32
    convolution = torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = convolution


def _device_of(module: nn.Module) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
