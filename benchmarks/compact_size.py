"""The compact container of a quantized network: its size over the order-0 entropy, and the time to read it.

Random weights of the network's initialisation, pruned by magnitude in each layer and moved to uniform steps with a
scale for each channel, by its largest weight, in plain torch. Only the scales make rows differ.

    entropy   sum over the quantized weights of n H, H of the shares of each level in that tensor (numpy)
    rest      raw bytes of everything else: scales, biases, normalisations

Beside it, what others make of the same network, over the size of the container: zstandard at level 19 and xz at 9, of
its safetensors file as it is and of the levels, one byte each, with the rest; and, for comparison only, nncodec's
DeepCABAC of the levels, with the raw rest. nncodec comes without patent rights and is no dependency; without it its
column is left out. To have it:

    pip install --no-deps --target DIR nncodec==2.1.3 && PYTHONPATH=DIR python -m benchmarks.compact_size
"""

from __future__ import annotations

import importlib
import lzma
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zstandard

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.formats import compact, safetensors
from modelpress.engine.network import Network, rebuild, weighted_layers
from modelpress.engine.quantize.grid import Grid
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription


def quantized(architecture: str, sparsity: float, bits: int) -> Network:
    """The network with this share of each layer at zero, on 2^bits - 1 levels."""
    torch.manual_seed(0)
    ref = ArchitectureRef(architecture=architecture)
    network = Network(rebuild(ref_description(ref)).eval(), ref_description(ref))
    most = 2 ** (bits - 1) - 1
    with torch.no_grad():
        for name, layer in weighted_layers(network.module).items():
            weight = layer.get_parameter("weight")
            order = weight.abs().flatten().argsort()
            weight.view(-1)[order[: int(sparsity * weight.numel())]] = 0
            scales = (weight.abs().flatten(1).amax(1) / most).clamp(min=1e-12)
            grid = Grid(torch.arange(-most, most + 1, dtype=torch.float32), scales)
            weight.copy_(grid.nearest(weight))
            network.grids[f"{name}.weight"] = grid
    return network


def ref_description(ref: ArchitectureRef) -> NetworkDescription:
    """For images of CIFAR."""
    return NetworkDescription(architecture=ref, input_shape=(3, 32, 32))


def entropy_and_rest(network: Network) -> tuple[float, int]:
    """Bytes of the quantized weights' entropy, and raw bytes of all else."""
    entropy, rest = 0.0, 0
    for name, tensor in network.module.state_dict().items():
        grid = network.grids.get(name)
        if grid is None:
            rest += tensor.numel() * tensor.element_size()
            continue
        rest += grid.scales.numel() * 4
        shares = np.bincount(grid.indices(tensor).flatten().numpy()) / tensor.numel()
        shares = shares[shares > 0]
        entropy += -tensor.numel() * float((shares * np.log2(shares)).sum()) / 8
    return entropy, rest


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zstd -19": lambda content: zstandard.compress(content, 19),
    "xz -9": lambda content: lzma.compress(content, preset=9),
}


def levels_and_rest(network: Network) -> tuple[list[np.ndarray], bytes]:
    """Levels (rows, columns) of each quantized weight, whole numbers around zero, and the raw bytes of all else."""
    levels, rest = [], []
    for name, tensor in network.module.state_dict().items():
        grid = network.grids.get(name)
        if grid is None:
            rest.append(tensor.numpy().tobytes())
            continue
        middle = (len(grid.levels) - 1) // 2
        levels.append((grid.indices(tensor).numpy().astype(np.int32) - middle).reshape(len(tensor), -1))
        rest.append(grid.scales.numpy().tobytes())
    return levels, b"".join(rest)


def nncodec_bytes(levels: list[np.ndarray]) -> int | None:
    """Bytes of the levels in nncodec's DeepCABAC, a stream each, decoded again to the same; None without nncodec."""
    try:
        # No import statement: type checkers would ask for it everywhere.
        coder: Any = importlib.import_module("nncodec.extensions.deepCABAC")
    except ImportError:
        return None
    unary_length, optimised = 11, 1  # as nncodec's own `compress` sets them
    plain = (0, 0, 0, 0)  # no trellis, rows in order, profile 0, no parent
    alone = (coder.HdspMode.AlwaysOff, np.zeros(2, dtype=np.int8), 0, 0)  # no history, no codebook
    size = 0
    for tensor in levels:
        encoder, decoder = coder.Encoder(), coder.Decoder()
        encoder.initCtxModels(unary_length, optimised)
        encoder.encodeLayer(tensor, *plain, 0, np.zeros(len(tensor), dtype=np.int32), *alone)
        stream = encoder.finish()
        decoder.setStream(stream)
        decoder.initCtxModels(unary_length)
        found = np.zeros_like(tensor)
        decoder.decodeLayer(found, *plain, *alone)
        if not np.array_equal(found, tensor):
            raise SystemExit("nncodec gives other levels back")
        size += stream.size
    return size


def others(network: Network, size: int, folder: Path) -> list[Figure]:
    """What others make of the same network, over the container's size."""
    plain = folder / "model.safetensors"
    safetensors.write(network, plain)
    levels, rest = levels_and_rest(network)
    packed = b"".join(tensor.astype(np.int8).tobytes() for tensor in levels) + rest
    figures = []
    for content, what in ((plain.read_bytes(), "safetensors"), (packed, "levels and rest")):
        for name, compress in COMPRESSORS.items():
            found = len(compress(content))
            figures.append(Figure(f"{name} of {what} / file", found / size, baseline={"bytes": found}))
    coded = nncodec_bytes(levels)
    if coded is None:
        print("nncodec is not installed, and left out; see --help for how to get it")
        return figures
    found = coded + len(rest)
    name = "nncodec of levels, and raw rest / file"
    return [*figures, Figure(name, found / size, baseline={"bytes": found, "levels": coded})]


def main() -> None:
    """Write, read, compare, publish."""
    parser = arguments("compact_size", __doc__ or "")
    parser.add_argument("--architecture", default="vgg19_bn_cifar")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = quantized(options.architecture, options.sparsity, options.bits)
    entropy, rest = entropy_and_rest(network)
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mpz"
        started = time.perf_counter()
        compact.write(network, path)
        writing = time.perf_counter() - started
        size = path.stat().st_size
        for _ in range(options.rounds):
            started = time.perf_counter()
            read = compact.read(path)
            seconds.append(time.perf_counter() - started)
        compared = others(network, size, Path(folder))
    state = read.module.state_dict()
    for name, tensor in network.module.state_dict().items():
        if tensor.numpy().tobytes() != state[name].numpy().tobytes():
            raise SystemExit(f"{name} did not come back")
    figures = [
        Figure("whole file / entropy", size / entropy, at_most=1.03, baseline={"entropy": entropy, "bytes": size}),
        Figure("file / (entropy + raw rest)", size / (entropy + rest), baseline={"rest": rest}),
        Figure("reading", float(np.median(seconds)), "s", at_most=2.0, samples=tuple(seconds)),
        Figure("writing", writing, "s"),
        *compared,
    ]
    conditions = {
        "architecture": options.architecture,
        "sparsity": options.sparsity,
        "bits": options.bits,
        "threads": 1,
    }
    publish(options.output, "Size and time of the compact container", conditions, figures)


if __name__ == "__main__":
    main()
