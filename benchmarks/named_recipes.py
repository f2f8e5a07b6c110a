"""What a named recipe makes of a network that a user has, beside what might take its place.

A network for CIFAR-10 is trained by the service and uploaded again, then each recipe is carried out on it, all for the
same share of their epochs, and compared on 5,000 training images that no training saw: recipes are chosen here, so the
test images are not touched. What was stopped goes on when it is started again: the service's data and a file for each
finished job are in the work folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.result import Figure, arguments, publish
from benchmarks.slimnets.budget import Job, scaled
from benchmarks.slimnets.finished import Finished, carry_out
from benchmarks.slimnets.images import write_datasets
from benchmarks.slimnets.recipes import TWO_CORES_STUDENT, coded, sparse, taught
from benchmarks.slimnets.runs import Steps
from benchmarks.slimnets.scale import SCALES
from benchmarks.slimnets.session import Session, draw_weights, upload_result, upload_weights, uploaded
from demo.cifar10 import FACTS
from demo.service import running_service
from modelpress.client.progress import JobBars
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import ArtifactKind, Recipe
from modelpress.spec.recipes import ready_recipe
from modelpress.spec.resources import Model
from modelpress.spec.steps import Cubic, Distill, Prune, Quantize

FILES = (ArtifactKind.COMPACT, ArtifactKind.SAFETENSORS, ArtifactKind.ONNX)


def named(name: str) -> Steps:
    """The steps of a named recipe as they are."""
    return Recipe.model_validate(ready_recipe(name).recipe).steps


def _sparse_codebook() -> Steps:
    """What `smallest` was before its training counted the bits of the file."""
    schedule = Cubic(begin=0.0, end=0.6, frequency=5)
    return (
        Prune(sparsity=0.9, schedule=schedule, training=taught(30, 0.01)),
        Quantize(scheme="codebook", bits=4, first_and_last_bits=8, training=taught(10, 0.002)),
    )


CANDIDATES: Mapping[str, Steps] = {
    "smallest": named("smallest"),
    "90% pruned, then 16 values a layer": _sparse_codebook(),
    "4 bits, rate 0.05": (coded(4, 40, rate=0.05),),
    "80% pruned, then 4 bits, rate 0.05": (sparse(0.8, 20), coded(4, 20, rate=0.05)),
    "gentle": named("gentle"),
}


def original(width: float, epochs: int) -> tuple[ArchitectureRef, Distill]:
    """What the user has, and how it is trained: by the labels."""
    ref = ArchitectureRef(architecture="convnet8_cifar", arguments={"width": width})
    training = TWO_CORES_STUDENT.training.model_copy(update={"epochs": epochs})
    return ref, TWO_CORES_STUDENT.model_copy(update={"student": ref, "training": training})


def figures(results: Mapping[str, Finished]) -> list[Figure]:
    """Of each recipe: how much smaller, and how much of the accuracy is left."""
    found = []
    for name, done in results.items():
        report = done.report
        assert report.baseline.accuracy is not None  # every job has a data set
        accuracy = {"original": report.baseline.accuracy.top1, "result": done.top1}
        found.append(Figure(f"{name}: smaller", report.ratios.stored_bytes, "x"))
        found.append(Figure(f"{name}: kept", done.top1 / accuracy["original"], "ratio", baseline=accuracy))
    return found


def main(argv: Sequence[str]) -> int:
    """Carry out what is not done yet, and write what there is."""
    parser = arguments("named_recipes", __doc__ or "")
    parser.add_argument("--width", type=float, default=0.25, help="of the original, ConvNet-8 (0.25)")
    parser.add_argument("--epochs", type=int, default=8, help="that the original is trained for (8)")
    parser.add_argument("--share", type=float, default=0.25, help="of the epochs of each recipe (0.25)")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="these recipes alone")
    parser.add_argument("--scale", choices=("full", "short"), default="full", help="how many images: all, or 2,500")
    parser.add_argument("--work", type=Path, default=Path("var/named-recipes"), help="(var/named-recipes)")
    options = parser.parse_args(argv)
    data = os.environ.get("MODELPRESS_DATA")
    if not data:
        sys.stderr.write("set MODELPRESS_DATA to the folder with cifar10-*.zip and vgg19-cifar10.json\n")
        return 2
    work: Path = options.work / f"{options.scale}-{options.width:g}-{options.epochs}"
    archive = write_datasets(Path(data), work / "data", SCALES[options.scale])["tuning"]
    ref, step = original(options.width, options.epochs)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    results: dict[str, Finished] = {}
    with running_service(work / "home", work / "service.log") as client, JobBars(console) as bars:
        images = uploaded(client.datasets(), "tuning", lambda: client.upload_dataset(archive, name="tuning"))

        def session(model: Model) -> Session:
            return Session(client, model.id, {"tuning": images.id}, work / "curves", bars)

        # Something to hand the job of the original in with.
        drawn = work / "data" / "untrained.safetensors"
        draw_weights(drawn, ref)
        first = session(upload_weights(client, drawn, ref, Path(data) / FACTS))
        done = carry_out(
            Job("original", "tuning", 0, (step,)),
            work / "runs",
            lambda job: first.perform(job, (ArtifactKind.SAFETENSORS,)),
        )
        perform = session(upload_result(client, done.id, work / "original")).perform
        for name in options.only:
            job = Job(f"{name}, {options.share:g} of its epochs", "tuning", 0, scaled(CANDIDATES[name], options.share))
            results[name] = carry_out(job, work / "runs", lambda job: perform(job, FILES))
    conditions = {
        "dataset": f"CIFAR-10 (JPEG edition), {SCALES[options.scale].tuning_images:,} training images held out",
        "original": step.model_dump(mode="json"),
        "share_of_epochs": options.share,
        "recipes": {name: done.steps for name, done in results.items()},
        "threads": torch.get_num_threads(),
    }
    publish(options.output, "Named recipes", conditions, figures(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
