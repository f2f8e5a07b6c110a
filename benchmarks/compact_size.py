"""The compact container of a quantized network: its size over the order-0 entropy, and the time to read it.

Random weights of the network's initialisation, pruned by magnitude in each layer and moved to uniform steps with a
scale for each channel, by its largest weight, in plain torch. Only the scales make rows differ.

    entropy   sum over the quantized weights of n H, H of the shares of each level in that tensor (numpy)
    rest      raw bytes of everything else: scales, biases, normalisations
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.formats import compact
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
    state = read.module.state_dict()
    for name, tensor in network.module.state_dict().items():
        if tensor.numpy().tobytes() != state[name].numpy().tobytes():
            raise SystemExit(f"{name} did not come back")
    figures = [
        Figure("whole file / entropy", size / entropy, at_most=1.03, baseline={"entropy": entropy, "bytes": size}),
        Figure("file / (entropy + raw rest)", size / (entropy + rest), baseline={"rest": rest}),
        Figure("reading", float(np.median(seconds)), "s", at_most=2.0, samples=tuple(seconds)),
        Figure("writing", writing, "s"),
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
