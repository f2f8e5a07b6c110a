"""What the bytes of a quantized network's compact container are made of.

A network of the given architecture with random norms, or a container (`--file`), is written whole and without one part
after the other: what the file loses is what that part takes.

    levels    the level of each quantized weight: coded symbols, classes and frequencies
    steps     the steps of channels (or values of codebooks)
    vectors   biases, norms, running statistics, and everything else
    header    the frame, and the description of the network

Random norms and weights take what trained ones do, but for the levels, which a training can make far shorter (`rate`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.compact_size import ref_description
from benchmarks.result import Figure, arguments, publish
from modelpress.engine.formats import compact, tensor_stream
from modelpress.engine.network import Network, rebuild
from modelpress.engine.quantize.grid import Grid
from modelpress.engine.quantize.step import quantize
from modelpress.engine.step import StepContext
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.steps import Quantize

# What a step `quantize` may leave of steps of channels, biases and norms.
WAYS: dict[str, dict[str, object]] = {
    "fp32": {},
    "bf16": {"vectors": "bf16"},
    "folded": {"fold_norms": True},
    "folded, bf16": {"vectors": "bf16", "fold_norms": True},
}


def parts_of(network: Network) -> dict[str, int]:
    """Bytes of the network's container by part; they sum up to the file's."""
    with tempfile.TemporaryDirectory() as folder:
        compact.write(network, Path(folder) / "model.mpz")
        whole = (Path(folder) / "model.mpz").stat().st_size
    state, grids = network.module.state_dict(), network.grids
    streamed = len(tensor_stream.pack_state(state, grids))
    bare = {name: tensor if name in grids else torch.zeros_like(tensor) for name, tensor in state.items()}
    without_vectors = len(tensor_stream.pack_state(bare, grids))
    units: dict[str, Tensor] = dict(bare)
    counted = {}
    for name, grid in grids.items():
        # Whole numbers and the one scale 1 take no room.
        counted[name] = Grid(torch.arange(len(grid.levels), dtype=torch.float32), torch.ones(1))
        units[name] = grid.indices(state[name]).float()
    levels = len(tensor_stream.pack_state(units, counted))
    return {
        "levels": levels,
        "steps": without_vectors - levels,
        "vectors": streamed - without_vectors,
        "header": whole - streamed,
    }


def random_network(architecture: str) -> Network:
    """With norms as various as trained ones."""
    torch.manual_seed(0)
    description = ref_description(ArchitectureRef(architecture=architecture))
    module = rebuild(description).eval()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for name, (mean, spread) in {"weight": (0.8, 0.3), "bias": (0, 0.3), "running_mean": (0, 0.3)}.items():
                    getattr(layer, name).normal_(mean, spread)
                layer.get_buffer("running_var").uniform_(0.2, 1.5)
    return Network(module, description)


def main() -> None:
    """Take apart, publish."""
    parser = arguments("compact_parts", __doc__ or "")
    parser.add_argument("--architecture", default="resnet20_cifar")
    parser.add_argument("--bits", type=int, default=2)
    parser.add_argument("--file", type=Path, help="a container to take apart in place of a random network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.file is not None:
        networks = {options.file.name: compact.read(options.file)}
    else:
        original = random_network(options.architecture)
        given = StepContext(original, None, 0, torch.device("cpu"))
        networks = {
            way: quantize(original, Quantize.model_validate({"bits": options.bits, **fields}), given).network
            for way, fields in WAYS.items()
        }
    figures = []
    for way, network in networks.items():
        parts = parts_of(network)
        figures += [Figure(f"{way}: {part}", size, "bytes") for part, size in parts.items()]
        figures.append(Figure(f"{way}: whole file", sum(parts.values()), "bytes"))
    conditions = {
        "architecture": options.architecture,
        "bits": options.bits,
        "file": options.file and options.file.name,
    }
    publish(options.output, "What a compact container is made of", conditions, figures)


if __name__ == "__main__":
    main()
