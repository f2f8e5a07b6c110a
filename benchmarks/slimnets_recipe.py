"""The paper's combined recipe on its own ground, through the service: VGG-19 distilled into NIN, then 75% pruned.

`python -m benchmarks.slimnets_recipe` starts the embedded service, uploads the VGG-19 of MODELPRESS_DATA and CIFAR-10
(JPEG edition) over HTTP, submits one job, downloads what it made and writes its report, with the paper's figures beside
it, to `benchmarks/results/slimnets_recipe.json` and `.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.result import RESULTS, command_line, commit
from demo.cifar10 import ARCHITECTURE, FACTS, SPLITS, WEIGHTS, join_splits, seconds_per_forward
from demo.service import running_service
from modelpress.client.progress import JobBars
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import JobSpec
from modelpress.spec.report import Measurement, Report
from modelpress.spec.steps import Cubic, Distill, Prune
from modelpress.spec.training import Augmentation, Recovery, Training

NAME = "slimnets_recipe"
DATA_SET = "CIFAR-10 (JPEG edition)"
# SlimNets, arXiv 1808.00496: VGG-19 distilled into NIN, then 75% of its weights pruned; lossless CIFAR-10, 300 epochs.
PAPER = {"ratio": 85.0, "original": 0.924, "result": 0.8869}
AUGMENTATION = Augmentation(horizontal_flip=True, crop_padding=2)

TRAIN_EXAMPLES = 50_000
# One epoch in forward passes of VGG-19 over the data: the teacher's one, and forward and backward of the NIN, which
# has 0.56 of the multiply-accumulates (three passes' worth).
PASSES_PER_EPOCH = 1 + 3 * 0.56
DISTILL_SHARE = 0.75  # of the epochs
SPARE_MINUTES = 4.0  # of the budget, for the start, both measurements and the artifacts


def recipe(model: str, dataset: str, distill_epochs: int, prune_epochs: int) -> JobSpec:
    """The paper's recipe, with the epochs that there is time for."""
    return JobSpec(
        name="SlimNets: distill into NIN, then prune 75%",
        model=model,
        dataset=dataset,
        steps=(
            Distill(
                student=ArchitectureRef(architecture="nin_cifar"),
                temperature=4.0,
                alpha=0.9,
                # NIN has no batch normalisation: AdamW brings it further than SGD in few epochs.
                training=Training(
                    epochs=distill_epochs,
                    optimizer="adamw",
                    learning_rate=1e-3,
                    schedule="one_cycle",
                    gradient_clip=5.0,
                    augmentation=AUGMENTATION,
                ),
            ),
            Prune(
                sparsity=0.75,
                schedule=Cubic(begin=0.0, end=0.75),
                training=Recovery(
                    epochs=prune_epochs,
                    optimizer="adamw",
                    learning_rate=3e-4,
                    gradient_clip=5.0,
                    augmentation=AUGMENTATION,
                    teacher="original",
                    temperature=4.0,
                    alpha=0.9,
                ),
            ),
        ),
    )


def fitting_epochs(minutes: float) -> tuple[int, int]:
    """Epochs of distillation and of pruning that take about `minutes` on this machine."""
    epoch_seconds = PASSES_PER_EPOCH * seconds_per_forward() * TRAIN_EXAMPLES
    epochs = max(2, int((minutes - SPARE_MINUTES) * 60 / epoch_seconds))
    distill = max(1, round(epochs * DISTILL_SHARE))
    return distill, max(1, epochs - distill)


def main() -> int:
    """Run the job and write its report; exit code 0 when it succeeded."""
    options = _parser().parse_args()
    if options.budget_minutes is not None:
        options.distill_epochs, options.prune_epochs = fitting_epochs(options.budget_minutes)
    source = Path(os.environ["MODELPRESS_DATA"])
    preprocessing = json.loads((source / FACTS).read_text())["preprocessing"]
    if options.threads is not None:
        os.environ["MODELPRESS_THREADS"] = str(options.threads)
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset_file = folder / "cifar10.zip"
        join_splits({split: source / file for split, file in SPLITS.items()}, dataset_file)
        with running_service(folder / "home", folder / "service.log") as client:
            model = client.upload_model(
                source / WEIGHTS,
                architecture=ARCHITECTURE.architecture,
                arguments=dict(ARCHITECTURE.arguments),
                mean=preprocessing["mean"],
                std=preprocessing["std"],
            )
            dataset = client.upload_dataset(dataset_file)
            job = client.submit(recipe(model.id, dataset.id, options.distill_epochs, options.prune_epochs))
            with JobBars(console) as bars:
                job.wait(on_progress=lambda progress: bars.show("slimnets", progress))
            job.download(folder / "results")
            _write(options.output, job.report)
    console.print(options.output.with_suffix(".md").read_text())
    return 0


def _write(path: Path, report: Report) -> None:
    document: dict[str, Any] = {
        "benchmark": NAME,
        "command": f"MODELPRESS_DATA=... {command_line()}",
        "commit": commit(),
        "dataset": DATA_SET,
        "paper": PAPER,
        "report": report.model_dump(mode="json"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    path.with_suffix(".md").write_text(summary(report, document["command"]))


def summary(report: Report, command: str) -> str:
    """The report as a page of Markdown, with the paper's figures beside ours."""
    rows = [("original (VGG-19)", report.baseline)]
    rows += [(f"after step {stage.index}: {stage.kind}", stage.measurement) for stage in report.stages]
    rows.append(("downloaded file", report.final))
    table = [_row(name, measurement) for name, measurement in rows]
    ratios, machine, trainings = report.ratios, report.provenance.machine, [s.training for s in report.stages]
    epochs = ", ".join(f"{t.epochs} epochs {t.precision} {t.images_per_second:.0f} images/s" for t in trainings if t)
    latency = report.final.latency_in()
    return "\n".join(
        [
            "# SlimNets' combined recipe through the service",
            "",
            f"VGG-19 distilled into NIN, then 75% of its weights pruned under distillation, on {DATA_SET}.",
            "",
            f"    {command}",
            "",
            "| network | smallest file, bytes | parameters | not zero | top-1 | latency p50, ms |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            "| | here | SlimNets (lossless CIFAR-10, 300 epochs and more) |",
            "|---|---|---|",
            f"| compression ratio | {ratios.stored_bytes:.1f}x | {PAPER['ratio']:.0f}x |",
            f"| top-1 of original and result | {_percent(_top1(report.baseline))} -> {_percent(_top1(report.final))} | "
            f"{_percent(PAPER['original'])} -> {_percent(PAPER['result'])} |",
            f"| retention | {_percent(ratios.accuracy_retention)} | {_percent(PAPER['result'] / PAPER['original'])} |",
            f"| speed-up | {ratios.latency:.2f}x | not given |" if ratios.latency is not None else "",
            "",
            f"Training: {epochs}; {report.provenance.seconds / 60:.0f} minutes in all. "
            f"Machine: {_machine(machine)}. "
            + (f"Latency: {latency.runtime}, {latency.threads} thread, batch {latency.batch}." if latency else ""),
            "",
        ]
    )


def _row(name: str, measurement: Measurement) -> str:
    size = "" if measurement.smallest_bytes is None else f"{measurement.smallest_bytes:,}"
    timed = measurement.latency_in()
    latency = f"{timed.p50_ms:.2f}" if timed else ""
    return (
        f"| {name} | {size} | {measurement.parameters:,} | {measurement.nonzero_parameters:,} | "
        f"{_percent(_top1(measurement))} | {latency} |"
    )


def _machine(facts: Mapping[str, Any]) -> str:
    gpu = f", {facts['gpu']}" if facts.get("gpu") else ""
    return f"{facts['processor']}, {facts['cores']} cores{gpu}, {facts['system']}"


def _top1(measurement: Measurement) -> float | None:
    return None if measurement.accuracy is None else measurement.accuracy.top1


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--distill-epochs", type=int, default=6, help="epochs of the distillation (the paper: 300)")
    parser.add_argument("--prune-epochs", type=int, default=2, help="epochs of the pruning")
    parser.add_argument("--budget-minutes", type=float, help="choose both to take about so long on this machine")
    parser.add_argument("--threads", type=int, help="processor threads of the job (all cores)")
    parser.add_argument("--output", type=Path, default=RESULTS / f"{NAME}.json", help="where the report is written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
