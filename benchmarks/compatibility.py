"""Every method on well-known networks: does it work, how much smaller, and which layers does it leave alone?

Each cell takes one step on a network with random weights, with one training step where the method trains, and asks:
finite outputs, written to the compact container and loaded again with the same outputs, exported to ONNX with the same
outputs. The last column is the artifact `onnx_int8` of the network as it is. Writes
`benchmarks/results/compatibility.json`, where methods and networks that are not asked for stay as they are, and of it
`docs/compatibility.md`.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from benchmarks.result import RESULTS, commit
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.formats.load import load_network
from modelpress.engine.formats.registry import QUANTIZERS, WRITERS
from modelpress.engine.measure import count_macs, count_nonzero, count_parameters, normalise
from modelpress.engine.network import Network, rebuild
from modelpress.engine.provenance import machine, versions
from modelpress.engine.reload import TOLERANCE
from modelpress.engine.runtimes import open_session, run_session
from modelpress.engine.step import StepContext
from modelpress.engine.steps import STEPS
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import CompressionError
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.report import SkippedLayer
from modelpress.spec.steps import Step

PAGE = Path(__file__).parents[1] / "docs/compatibility.md"
CLASSES = 10
TRAINING = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-4, "precision": "fp32"}


@dataclass(frozen=True)
class Subject:
    """A network to try the methods on."""

    title: str
    architecture: str
    size: int
    arguments: tuple[tuple[str, Any], ...] = ()


SUBJECTS = (
    Subject("VGG-19 (CIFAR)", "vgg19_bn_cifar", 32),
    Subject("ResNet-56 (CIFAR)", "resnet56_cifar", 32),
    Subject("ResNet-50", "resnet50", 64),
    Subject("MobileNetV3-Small", "mobilenet_v3_small", 64),
    Subject("MobileNetV3-Large", "mobilenet_v3_large", 64),
    Subject("DenseNet-121", "densenet121", 64),
    Subject("EfficientNet-B0", "efficientnet_b0", 64),
    Subject("ConvNeXt-Tiny", "convnext_tiny", 64),
    Subject("ViT-B/16", "vit_b_16", 64, (("image_size", 64),)),
    Subject("RegNetY-400MF", "regnet_y_400mf", 64),
    Subject("ShuffleNetV2 x1.0", "shufflenet_v2_x1_0", 64),
)

METHODS: dict[str, dict[str, Any]] = {
    "prune": {"kind": "prune", "sparsity": 0.75, "training": TRAINING},
    "factorize": {"kind": "factorize", "rank": {"kind": "ratio", "value": 0.25}, "training": TRAINING},
    "distill": {"kind": "distill", "student": {"architecture": "resnet18"}, "training": TRAINING},
    "quantize": {"kind": "quantize", "bits": 4, "training": TRAINING},
    "prune_channels": {
        "kind": "prune_channels",
        "target": {"kind": "channels", "removed": 0.5},
        "scope": "local",
        "training": TRAINING,
    },
    "finetune": {"kind": "finetune", "training": TRAINING},
}
INT8 = ArtifactKind.ONNX_INT8.value  # no step, but as much a method that a network may be too much for
COLUMNS = (*METHODS, INT8)


@dataclass(frozen=True)
class LeftAlone:
    """Layers that a method left as they are for the same reason."""

    reason: str
    count: int
    first: str  # name of the first of them


@dataclass(frozen=True)
class Outcome:
    """What one method did to one network."""

    cell: str
    left: tuple[LeftAlone, ...] = ()
    commit: str | None = field(default_factory=commit)


def left_alone(skipped: Sequence[SkippedLayer]) -> tuple[LeftAlone, ...]:
    """The layers by reason, the commonest first."""
    return tuple(
        LeftAlone(reason, count, next(layer.name for layer in skipped if layer.reason == reason))
        for reason, count in Counter(layer.reason for layer in skipped).most_common()
    )


def images(size: int) -> ImageData:
    """A few images of noise, enough for one training step."""
    draw = np.random.default_rng(0)
    pixels = torch.from_numpy(draw.integers(0, 256, (8, size, size, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
    labels = torch.arange(8) % CLASSES
    statistics = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return ImageData(pixels[:4], labels[:4], pixels[4:], labels[4:], tuple("0123456789"), statistics)


def original(subject: Subject) -> Network:
    """The network with random weights."""
    torch.manual_seed(0)
    ref = ArchitectureRef(
        architecture=subject.architecture, arguments={"num_classes": CLASSES, **dict(subject.arguments)}
    )
    description = NetworkDescription(
        architecture=ref, input_shape=(3, subject.size, subject.size), preprocessing=images(subject.size).statistics
    )
    return Network(rebuild(description).eval(), description)


def attempt(network: Network, method: str, data: ImageData) -> Outcome:
    """Take the step and put its result to the test."""
    step = TypeAdapter[Any](Step).validate_python(METHODS[method])
    context = StepContext(network, data, 0, torch.device("cpu"))
    try:
        result = STEPS[method](network, step, context)
    except CompressionError as error:
        return Outcome(f"refused: {error.message[:160]}")
    made = result.network
    probe = torch.randn(2, *made.description.input_shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = made.module(probe)
    if not bool(expected.isfinite().all()):
        return Outcome("**outputs are not finite**", left_alone(result.skipped))
    if problem := _files(made, probe, expected):
        return Outcome(f"**{problem}**", left_alone(result.skipped))
    count = len(result.skipped)
    left = f", {count} layer{'' if count == 1 else 's'} left" if count else ""
    return Outcome(f"{_smaller(network, made)}{left}", left_alone(result.skipped))


def attempt_int8(network: Network, data: ImageData) -> Outcome:
    """Write the network's 8-bit file, and hold what integer kernels make of it against the file computed in fp32."""
    images = normalise(data.train_images, data.statistics)
    with tempfile.TemporaryDirectory(prefix="modelpress-compatibility-") as name:
        onnx, int8 = Path(name) / "model.onnx", Path(name) / "model.int8.onnx"
        try:
            WRITERS[ArtifactKind.ONNX](network, onnx)
            QUANTIZERS[ArtifactKind.ONNX_INT8](onnx, int8, [images])
        except CompressionError as error:
            return Outcome(f"refused: {error.message[:160]}")
        found, wanted = (
            run_session(open_session(int8, optimised=optimised), images.numpy()) for optimised in (True, False)
        )
        if not np.isfinite(found).all():
            return Outcome("**outputs are not finite**")
        if np.abs(found - wanted).max() > TOLERANCE[ArtifactKind.ONNX_INT8] * np.abs(wanted).max():
            return Outcome("**the integer kernels give other outputs than the file**")
        return Outcome(f"{onnx.stat().st_size / int8.stat().st_size:.2g}x bytes")


def _files(network: Network, probe: torch.Tensor, expected: torch.Tensor) -> str | None:
    """What does not work about the files of a network; None when they do."""
    with tempfile.TemporaryDirectory(prefix="modelpress-compatibility-") as name:
        compact, onnx = Path(name) / "model.mpz", Path(name) / "model.onnx"
        WRITERS[ArtifactKind.COMPACT](network, compact)
        with torch.inference_mode():
            if not torch.equal(load_network(compact).module(probe), expected):
                return "the compact container gives other outputs"
        try:
            WRITERS[ArtifactKind.ONNX](network, onnx)
        except Exception as error:  # noqa: BLE001  # the exporter's errors have no common class
            return f"no ONNX export ({type(error).__name__})"
        found = torch.from_numpy(run_session(open_session(onnx), probe.numpy()))
        scale = max(1.0, float(expected.abs().max()))
        if not torch.allclose(found, expected, atol=1e-3 * scale, rtol=1e-3):
            return "the ONNX file gives other outputs"
    return None


def _smaller(before: Network, after: Network) -> str:
    shape = before.description.input_shape
    weights = count_nonzero(before.module) / count_nonzero(after.module)
    macs = count_macs(before.module, shape) / count_macs(after.module, shape)
    parameters = count_parameters(before.module) / count_parameters(after.module)
    return f"{parameters:.2g}x parameters, {weights:.2g}x weights, {macs:.2g}x MACs"


def main() -> int:
    """Try everything and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compatibility", description=__doc__)
    parser.add_argument("--only", nargs="*", help="architectures, such as resnet50 (all)")
    parser.add_argument("--methods", nargs="*", default=list(COLUMNS), choices=list(COLUMNS))
    parser.add_argument("--output", type=Path, default=RESULTS / "compatibility.json")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, dict[str, Any]] = {}
    if options.output.exists():
        found = json.loads(options.output.read_text())["outcomes"]
    for subject in SUBJECTS:
        if options.only and subject.architecture not in options.only:
            continue
        data, network = images(subject.size), original(subject)
        for method in options.methods:
            began = time.perf_counter()
            outcome = attempt_int8(network, data) if method == INT8 else attempt(network, method, data)
            found.setdefault(subject.architecture, {})[method] = asdict(outcome)
            print(f"{subject.title}, {method}: {outcome.cell} ({time.perf_counter() - began:.0f} s)", flush=True)
            gc.collect()
    result = {
        "benchmark": "compatibility",
        "command": "python -m benchmarks.compatibility",
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
        "steps": METHODS,
        "outcomes": found,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    PAGE.write_text(page(result))
    return 0


def page(result: Mapping[str, Any]) -> str:
    """The table as Markdown, with what each method left alone and why below it."""
    outcomes, methods = result["outcomes"], [*result["steps"], INT8]
    known = [subject for subject in SUBJECTS if subject.architecture in outcomes]
    lines = [
        "# Which method works on which network",
        "",
        "Each cell is one step on a network with random weights, one training step included where the method trains.",
        "Its outputs were finite; its compact container, loaded again, gave the same outputs to the bit, and its ONNX",
        "export the same within 1e-3. What a method cannot treat it names, here and in every job's report. How much",
        "smaller a network gets is up to the recipe: the figures only show that it does. `distill` puts a ResNet-18 in",
        "the network's place, whatever its size. `onnx_int8` is the artifact of the network as it is, in bytes against",
        "its fp32 ONNX file; its integer kernels gave what the file says.",
        "",
        f"    {result['command']}",
        "",
        f"Made on {result['machine']['processor']}, torch {result['versions']['torch']}.",
        "",
        f"| network | {' | '.join(f'`{method}`' for method in methods)} |",
        f"|---|{'---|' * len(methods)}",
    ]
    for subject in known:
        cells = [outcomes[subject.architecture].get(method, {"cell": "not tried"})["cell"] for method in methods]
        lines.append(f"| {subject.title} | {' | '.join(cells)} |")
    lines += ["", "The steps:", ""]
    lines += [f"- `{json.dumps(step)}`" for step in result["steps"].values()]
    lines += ["", "## Layers left alone", ""]
    for subject in known:
        for method in methods:
            for left in outcomes[subject.architecture].get(method, {}).get("left", ()):
                more = " and more" if left["count"] > 1 else ""
                lines.append(
                    f"- {subject.title}, `{method}`: {left['count']} (`{left['first']}`{more}): {left['reason']}"
                )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
