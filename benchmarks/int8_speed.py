"""VGG-19 with three quarters of its channels gone and in 8 bits, against the dense one in fp32: times of one image.

Both in ONNX Runtime, one image, one thread, in turns within one process; medians. The steps are those of a job:
channels by `prune_channels`, files by the writers of the artifacts `onnx` and `onnx_int8`. Weights and images are
random, as speed does not depend on them; what such a network is worth in accuracy is another benchmark's matter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build
from modelpress.engine.formats import onnx, onnx_int8
from modelpress.engine.latency import file_contender, take_turns
from modelpress.engine.network import Network
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.step import StepContext
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import NetworkDescription
from modelpress.spec.steps import PruneChannels

SHAPE = (3, 32, 32)
REMOVED = 0.75
CALIBRATION_IMAGES = 64


def main() -> None:
    """Measure, write, print."""
    parser = arguments("int8_speed", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    reference = ArchitectureRef(architecture="vgg19_bn_cifar")
    dense = Network(build(reference).eval(), NetworkDescription(architecture=reference, input_shape=SHAPE))
    context = StepContext(original=dense, data=None, seed=0, device=torch.device("cpu"))
    step = PruneChannels.model_validate({"target": {"kind": "channels", "removed": REMOVED}, "scope": "local"})
    pruned = prune_channels(dense, step, context).network
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"{name}.onnx" for name in ("dense", "dense_int8", "pruned", "pruned_int8")}
        images = [torch.randn(CALIBRATION_IMAGES, *SHAPE)]
        for name, network in (("dense", dense), ("pruned", pruned)):
            onnx.write(network, paths[name])
            onnx_int8.quantize(paths[name], paths[f"{name}_int8"], images)
        contenders = [
            file_contender(path, ArtifactKind.ONNX_INT8 if name.endswith("int8") else ArtifactKind.ONNX)
            for name, path in paths.items()
        ]
        rounds = []
        for turn in range(options.rounds):
            measured = take_turns(contenders, SHAPE)
            rounds.append({name: latency.p50_ms for name, latency in zip(paths, measured, strict=True)})
            print(
                f"round {turn + 1}: " + ", ".join(f"{name} {p50:.3f} ms" for name, p50 in rounds[-1].items()),
                flush=True,
            )
    figures = []
    for name, bound in (("pruned_int8", 20.0), ("pruned", None), ("dense_int8", None)):
        ratios = tuple(times["dense"] / times[name] for times in rounds)
        baseline = {"dense_ms": median(times["dense"] for times in rounds)}
        baseline[f"{name}_ms"] = median(times[name] for times in rounds)
        figures.append(
            Figure(f"dense fp32 / {name}", median(ratios), at_least=bound, samples=ratios, baseline=baseline)
        )
    conditions = {
        "network": reference.architecture,
        "removed_channels": REMOVED,
        "runtime": "onnxruntime",
        "threads": 1,
        "batch": 1,
        "rounds": options.rounds,
    }
    publish(options.output, "VGG-19 pruned and in 8 bits against dense fp32", conditions, figures)


if __name__ == "__main__":
    main()
