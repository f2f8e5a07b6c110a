"""Factorizing all layers of VGG-19 against the bare `torch.linalg.svd` of the same matrices.

Both in fp32 with the same threads, in turns; seconds, medians. The step also copies the network, looks how it calls its
layers, chooses the ranks, builds the pairs and counts them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build, input_shape
from modelpress.engine.factorize.step import factorize
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.step import StepContext
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import Factorize

RANKS: dict[str, dict[str, object]] = {
    "ratio": {"kind": "ratio", "value": 0.25},
    "energy": {"kind": "energy", "value": 0.5},
    "budget": {"kind": "budget", "macs": 0.3},
}


def vgg19() -> Network:
    """VGG-19 for 32 x 32 images, its weights drawn from a seed."""
    architecture = ArchitectureRef(architecture="vgg19_bn_cifar")
    torch.manual_seed(0)
    module = build(architecture).eval()
    return Network(module, NetworkDescription(architecture=architecture, input_shape=input_shape(architecture)))


def matrices(network: Network) -> list[Tensor]:
    """Every layer's weight as the matrix that the scheme `vertical_horizontal` cuts, written out here once more."""
    weights = [layer.get_parameter("weight").detach() for layer in weighted_layers(network.module).values()]
    return [
        weight.permute(1, 2, 0, 3).reshape(weight.shape[1] * weight.shape[2], -1) if weight.ndim == 4 else weight.T
        for weight in weights
    ]


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    """Measure, write, print."""
    parser = arguments("factorization", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--ranks", nargs="+", choices=sorted(RANKS), default=list(RANKS), help="kinds of rank to time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    network = vgg19()
    context = StepContext(network, None, 0, torch.device("cpu"))
    cut = matrices(network)
    bares: list[float] = []
    steps: dict[str, list[float]] = {kind: [] for kind in options.ranks}
    for turn in range(options.rounds):
        bares.append(seconds(lambda: [torch.linalg.svd(matrix, full_matrices=False) for matrix in cut]))
        for kind in options.ranks:
            step = Factorize.model_validate({"rank": RANKS[kind]})
            steps[kind].append(seconds(lambda step=step: factorize(network, step, context)))  # type: ignore[misc]
        taken = ", ".join(f"{kind} {found[-1]:.1f} s" for kind, found in steps.items())
        print(f"round {turn + 1}: bare {bares[-1]:.1f} s, {taken}", flush=True)

    figures = []
    for kind, found in steps.items():
        ratios = tuple(step / bare for step, bare in zip(found, bares, strict=True))
        baseline = {"step_seconds": median(found), "svd_seconds": median(bares)}
        figures.append(
            Figure(f"rank by {kind}: step / SVD", median(ratios), at_most=1.5, samples=ratios, baseline=baseline)
        )
    conditions = {
        "network": "vgg19_bn_cifar, weights drawn from a seed",
        "scheme": "vertical_horizontal",
        "ranks": {kind: RANKS[kind] for kind in options.ranks},
        "precision": "fp32",
        "threads": options.threads,
        "rounds": options.rounds,
    }
    publish(options.output, "Factorizing VGG-19 against the bare SVD", conditions, figures)


if __name__ == "__main__":
    main()
