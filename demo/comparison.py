"""The main job, end to end: upload, run the recipes, watch, download, load, check, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from demo.check import check_accuracy
from demo.prepared import Prepared
from modelpress.client import Client, JobHandle
from modelpress.client.progress import JobBars
from modelpress.client.table import result_table
from modelpress.spec.figures import in_bytes, in_counts
from modelpress.spec.report import Report
from modelpress.spec.state import JobState


def compare(
    client: Client, prepared: Prepared, recipes: list[dict[str, Any]], results: Path, console: Console
) -> dict[str, Report]:
    """Run every recipe through the service; artifacts go to `results/<recipe>`. Returns the reports by recipe.

    Raises the client's errors, and FigureMismatch when a downloaded file is not what its report says.
    """
    model_id, dataset_id = _upload(client, prepared, console)
    jobs = {recipe["name"]: client.submit(recipe | {"model": model_id, "dataset": dataset_id}) for recipe in recipes}
    console.print(f"submitted {len(jobs)} jobs; one worker does them in turn\n")
    _watch(jobs, console)
    console.print()
    reports = {}
    for name, job in jobs.items():
        folder = results / name.replace(", ", "-").replace(" ", "-")
        job.download(folder)
        report = reports[name] = job.report
        checked = [check_accuracy(path, report, prepared) for path in _loadable(folder)]
        files = ", ".join(f"{kind} {in_bytes(size)}" for kind, size in report.final.stored_bytes.items())
        accuracy = " and ".join(sorted({f"{100 * value:.2f}%" for value in checked}))
        console.print(f"{name}: {files}; loaded, {accuracy} of the held-out images right, as reported", markup=False)
        if reused := [stage.kind for stage in report.stages if stage.reused_from is not None]:
            console.print(f"{name}: {', '.join(reused)} was not done again, but taken from a job before", markup=False)
    console.print()
    console.print(result_table(reports))
    console.print("\nfiles and reports are in", str(results), highlight=False)
    return reports


def _upload(client: Client, prepared: Prepared, console: Console) -> tuple[str, str]:
    model = client.upload_model(
        prepared.model,
        architecture=prepared.architecture.architecture,
        arguments=prepared.architecture.arguments,
        mean=prepared.preprocessing.mean,
        std=prepared.preprocessing.std,
    )
    dataset = client.upload_dataset(prepared.dataset)
    if model.inspection is not None:
        found = model.inspection
        parameters, macs = in_counts(found.parameters), in_counts(found.macs)
        console.print(f"uploaded {model.id}: {parameters} parameters, {macs} MACs, {in_bytes(found.fp32_bytes)}")
    if dataset.inspection is not None:
        seen = dataset.inspection
        console.print(
            f"uploaded {dataset.id}: {seen.train_examples} images to train on, {seen.heldout_examples} held out"
        )
    return model.id, dataset.id


def _watch(jobs: dict[str, JobHandle], console: Console) -> None:
    with JobBars(console) as bars:
        for place, name in enumerate(jobs):
            bars.say(name, "starting" if place == 0 else f"waiting, place {place} in the queue")
        for name, job in jobs.items():
            done = job.wait(on_progress=lambda progress, name=name: bars.show(name, progress))
            if done.state is JobState.SUCCEEDED and done.ratios is not None:
                bars.say(name, f"succeeded, {done.ratios.stored_bytes:.3g}x smaller")


def _loadable(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in {".mpz", ".safetensors"})
