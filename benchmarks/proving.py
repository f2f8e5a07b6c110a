"""The proof of every artifact of a dense VGG-19, as a job has it done: how long, and over what no proof can do without.

A fresh process reloads the five files, holds their outputs against the network's, measures the accuracy of each on the
held-out images, and takes the latencies of original and result in turns. The least that this takes are the forward
passes over the held-out images in each runtime, once for the files that are the same modules: they are timed alone,
in this process, with as many threads, in turns with the proof; seconds, medians. Weights and images are random, as the
time does not depend on them; a job's result is smaller, and so proven sooner.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.formats.load import load_network
from modelpress.engine.measure import batches, normalise, outputs_of
from modelpress.engine.network import Network
from modelpress.engine.proving import Prover
from modelpress.engine.runtimes import open_session, run_session
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.cores import available_cores
from modelpress.spec.job import DEFAULT_ARTIFACTS, ArtifactKind, Recipe
from modelpress.spec.network import NetworkDescription, Preprocessing

SHAPE = (3, 32, 32)
CLASSES = 10
CALIBRATION_IMAGES = 256
PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
# A proof does not depend on the step that a recipe has to have.
RECIPE = Recipe.model_validate(
    {
        "steps": [{"kind": "quantize", "bits": 8}],
        "artifacts": DEFAULT_ARTIFACTS,
        "calibration_images": CALIBRATION_IMAGES,
    }
)


def random_data(heldout: int) -> ImageData:
    """Images of random pixels, as many as calibrate to train with."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=generator)
        return pixels, torch.arange(count) % CLASSES

    return ImageData(*drawn(CALIBRATION_IMAGES), *drawn(heldout), tuple("0123456789"), PREPROCESSING)


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def passes(files: dict[ArtifactKind, Path], images: torch.Tensor, threads: int) -> dict[str, Callable[[], object]]:
    """By runtime, one forward pass over all images, the file being loaded."""
    module = load_network(files[ArtifactKind.COMPACT]).module

    def in_runtime(kind: ArtifactKind) -> Callable[[], object]:
        session = open_session(files[kind], threads)
        return lambda: [run_session(session, normalise(each, PREPROCESSING).numpy()) for each in batches(images)]

    return {
        "PyTorch": lambda: outputs_of(module, images, PREPROCESSING, "cpu"),
        "ONNX Runtime": in_runtime(ArtifactKind.ONNX),
        "ONNX Runtime in 8 bits": in_runtime(ArtifactKind.ONNX_INT8),
    }


def main() -> None:
    """Measure, write, print."""
    parser = arguments("proving", __doc__ or "")
    parser.add_argument("--images", type=int, default=1_000, help="held out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="vgg19_bn_cifar", help="one for images of 32 x 32")
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    reference = ArchitectureRef(architecture=options.network)
    description = NetworkDescription(architecture=reference, input_shape=SHAPE, preprocessing=PREPROCESSING)
    network = Network(build(reference).eval(), description)
    data = random_data(options.images)

    proofs: list[float] = []
    alone: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="modelpress-proving-") as name:
        scratch, artifacts = Path(name) / "scratch", Path(name) / "artifacts"
        scratch.mkdir()
        artifacts.mkdir()
        prover = Prover(data, scratch, options.threads, torch.device("cpu"))
        prover.measure_original(network, RECIPE.wanted_artifacts)
        written = prover.write_files(network, RECIPE, artifacts)
        runs = passes({file.kind: file.path for file in written}, data.heldout_images, options.threads)
        for turn in range(options.rounds):
            for runtime, run in runs.items():
                alone.setdefault(runtime, []).append(seconds(run))
            proofs.append(seconds(lambda: prover.prove(network, written)))
            told = ", ".join(f"{runtime} {times[-1]:.1f} s" for runtime, times in alone.items())
            print(f"round {turn + 1}: proof {proofs[-1]:.1f} s; alone {told}", flush=True)
    floors = [sum(times) for times in zip(*alone.values(), strict=True)]
    ratios = tuple(proof / floor for proof, floor in zip(proofs, floors, strict=True))
    figures = [
        Figure("proof of all files", median(proofs), "s", at_most=60.0, samples=tuple(proofs)),
        Figure("proof / forward passes", median(ratios), samples=ratios, baseline={"passes_seconds": median(floors)}),
        *(Figure(f"forward passes in {key}", median(times), "s", samples=tuple(times)) for key, times in alone.items()),
    ]
    conditions = {
        "network": options.network,
        "images": options.images,
        "artifacts": [kind.value for kind in DEFAULT_ARTIFACTS],
        "threads": options.threads,
        "rounds": options.rounds,
    }
    publish(options.output, "Proof of all artifacts of a dense VGG-19", conditions, figures)


if __name__ == "__main__":
    main()
