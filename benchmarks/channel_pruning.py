"""The step `prune_channels` on ResNet-50 against calling torch-pruning directly, in turns; seconds, medians.

Both take half of the channels out of the same network for images of 224 x 224, the least by their L2 norm over all
layers, without training, beginning with a network that nobody has traced. torch-pruning prunes the network in place;
the step leaves it as it was, and also tries each group against zeroed weights, which torch-pruning does not.
"""

from __future__ import annotations

import copy
import time
from statistics import median

import torch
import torch_pruning as tp
from torch import nn

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build, input_shape
from modelpress.engine.measure import count_parameters
from modelpress.engine.network import Network
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.step import StepContext
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import ChannelTarget, PruneChannels

REF = ArchitectureRef(architecture="resnet50")
SHARE = 0.5


def run_step(network: Network) -> tuple[float, nn.Module]:
    """Seconds of the step, and what it made."""
    step = PruneChannels(target=ChannelTarget(kind="channels", removed=SHARE), criterion="l2", scope="global")
    context = StepContext(network, None, 0, torch.device("cpu"))
    begin = time.perf_counter()
    result = prune_channels(network, step, context)
    return time.perf_counter() - begin, result.network.module


def run_direct(network: Network) -> tuple[float, nn.Module]:
    """Seconds of torch-pruning, its dependency graph included, and what it made."""
    module = copy.deepcopy(network.module)
    begin = time.perf_counter()
    pruner = tp.pruner.MagnitudePruner(
        module,
        torch.randn(1, *network.description.input_shape),
        importance=tp.importance.MagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=SHARE,
        ignored_layers=[module.get_submodule("fc")],
    )
    pruner.step()
    return time.perf_counter() - begin, module


def main() -> None:
    """Measure, write, print."""
    parser = arguments("channel_pruning", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    torch.manual_seed(0)
    description = NetworkDescription(architecture=REF, input_shape=input_shape(REF, None))
    network = Network(build(REF).eval(), description)
    run_step(network), run_direct(network)  # what is loaded and laid out at the first call
    steps, directs = [], []
    sizes: dict[str, int] = {"before": count_parameters(network.module)}
    for turn in range(options.rounds):
        seconds, made = run_step(network)
        steps.append(seconds)
        sizes["step"] = count_parameters(made)
        seconds, made = run_direct(network)
        directs.append(seconds)
        sizes["torch_pruning"] = count_parameters(made)
        print(f"round {turn + 1}: step {steps[-1]:.3f} s, torch-pruning {directs[-1]:.3f} s", flush=True)
    ratios = tuple(step / direct for step, direct in zip(steps, directs, strict=True))
    figure = Figure(
        "resnet50: step / torch-pruning",
        median(ratios),
        at_most=1.2,
        samples=ratios,
        baseline={"step_seconds": median(steps), "torch_pruning_seconds": median(directs)},
    )
    conditions = {
        "images": "3 x 224 x 224",
        "channels_removed": SHARE,
        "criterion": "l2, global",
        "parameters": sizes,
        "threads": options.threads,
        "rounds": options.rounds,
    }
    publish(options.output, "Channel pruning of ResNet-50 against torch-pruning", conditions, [figure])


if __name__ == "__main__":
    main()
