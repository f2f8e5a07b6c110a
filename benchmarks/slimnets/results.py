"""What a run of the tables leaves: JSON, the tables as Markdown, and plots; read back to make the page of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.result import commit
from benchmarks.slimnets import paper
from benchmarks.slimnets.finished import Finished, keep, path_of, write_text
from benchmarks.slimnets.outcome import Outcome, reused_seconds
from benchmarks.slimnets.plan import OtherPlan, Plan, keep_plan, kept_plan
from benchmarks.slimnets.plots import plots
from benchmarks.slimnets.recipes import ablations
from benchmarks.slimnets.runs import PRUNING_PART_RATE, TABLES, Run
from benchmarks.slimnets.scale import SCALES, Scale
from benchmarks.slimnets.selection import all_runs, runs_of
from benchmarks.slimnets.tables import table

RUNS = "runs"
"""In a work folder, the files of finished jobs."""
DATA_SET = "CIFAR-10 (JPEG edition)"


def commands(scale: Scale, plan: Plan) -> list[str]:
    """What repeats the plan: one line for all tables of the same budget."""
    by_budget: dict[float | None, list[int]] = {}
    for number, table_plan in sorted(plan.tables.items()):
        by_budget.setdefault(table_plan.minutes, []).append(number)
    lines = []
    for minutes, numbers in by_budget.items():
        given = "" if minutes == scale.minutes or minutes is None else f" --budget {minutes:g}"
        chosen = f" --tables {' '.join(map(str, numbers))}"
        lines.append(f"MODELPRESS_DATA=... python -m benchmarks.slimnets --scale {scale.name}{given}{chosen}")
    return lines


def document(scale: Scale, outcomes: Mapping[str, Outcome], failures: Mapping[str, str], plan: Plan) -> dict[str, Any]:
    """The results as JSON."""
    return {
        "benchmark": "slimnets",
        "scale": scale.name,
        "commands": commands(scale, plan),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "dataset": DATA_SET,
        "plan": plan.model_dump(mode="json"),
        "failures": dict(failures),
        "outcomes": {
            name: {
                "chosen": outcome.chosen,
                "tried": [one.published() for one in outcome.tried],
                "finished": [one.published() for one in outcome.finished],
            }
            for name, outcome in outcomes.items()
        },
    }


def read(text: str) -> tuple[Scale, dict[str, Outcome], dict[str, Any]]:
    """Scale, outcomes and the document itself, of a file that `document` made."""
    found = json.loads(text)
    scale = SCALES[found["scale"]]
    runs = {run.name: run for run in all_runs(scale)}
    outcomes = {}
    for name, kept in found["outcomes"].items():
        run = runs.get(name)
        if run is None:
            continue
        outcomes[name] = Outcome(
            run,
            tuple(Finished.model_validate(one) for one in kept["finished"]),
            kept["chosen"],
            tuple(Finished.model_validate(one) for one in kept["tried"]),
        )
        runs |= {part.name: part for part in ablations(run, outcomes[name].candidate)}
    return scale, outcomes, found


def restore(text: str, work: Path) -> int:
    """Take up what `document` made as finished in a work folder, which may have finished other runs; gives how many
    jobs are new in it. Raises OtherPlan, and takes up nothing, when a table was begun there with other epochs."""
    found = json.loads(text)
    published, begun = Plan.model_validate(found["plan"]), kept_plan(work)
    for number in sorted(published.tables.keys() & begun.tables.keys()):
        if published.tables[number] != begun.tables[number]:
            raise OtherPlan(
                f"{work} has table {number} begun with other epochs than the published ones: give another --work"
            )
    jobs = [
        Finished.model_validate(one)
        for outcome in found["outcomes"].values()
        for one in (*outcome["tried"], *outcome["finished"])
    ]
    folder = work / RUNS
    new = [job for job in jobs if not path_of(job, folder).is_file()]
    for job in new:
        keep(job, folder)
    keep_plan(Plan(tables=published.tables | begun.tables), work)
    return len(new)


def markdown(scale: Scale, outcomes: Mapping[str, Outcome], found: Mapping[str, Any], folder: str = "") -> str:
    """The tables and plots of one scale, and what differs from the paper; plots are looked for in `folder`."""
    if not outcomes:
        return "No run has finished yet.\n"
    parts = [
        *(f"    {command}" for command in found["commands"]),
        "",
        f"{scale.summary[0].upper()}{scale.summary[1:]}.",
        "",
        *differences(scale, outcomes),
        "",
    ]
    missing = [run.title for run in missing_runs(scale, outcomes)]
    if missing:
        parts += [f"Not measured yet: {'; '.join(missing)}.", ""]
    for name, reason in found["failures"].items():
        parts += [f"Failed: {name}: {reason}", ""]
    drawn = plots(outcomes)
    for number in TABLES:
        text = table(number, outcomes)
        if number and text:
            parts += [text, *(image(scale, name, folder) for name in _PLOTS.get(number, ()) if name in drawn), ""]
    return "\n".join(parts)


_PLOTS = {1: ("sparsity", "loss"), 4: ("bytes", "latency")}
_ALTERNATIVE = {
    "sparsity": "Share of zero weights over the steps of the training, gradual and one-shot pruning",
    "loss": "Training loss over the steps, gradual and one-shot pruning",
    "bytes": "Accuracy against bytes of every run, and SlimNets' own figures",
    "latency": "Accuracy against latency of every run",
}


def image(scale: Scale, name: str, folder: str) -> str:
    """A plot in Markdown."""
    return f"![{_ALTERNATIVE[name]}]({folder}slimnets-{scale.name}-{name}.svg)\n"


def missing_runs(scale: Scale, outcomes: Mapping[str, Outcome]) -> list[Run]:
    """The runs of a scale that have no figure."""
    return [run for run in runs_of(scale) if run.name not in outcomes]


def differences(scale: Scale, outcomes: Mapping[str, Outcome]) -> list[str]:
    """What has to be known before a figure is set beside the paper's."""
    # The training of the original begins with another network than all other jobs.
    later = [outcome for outcome in outcomes.values() if outcome.run.table != 0] or list(outcomes.values())
    reports = [report for outcome in later for report in outcome.reports]
    accuracy = reports[0].baseline.accuracy
    assert accuracy is not None  # every job has a data set
    machines = dict.fromkeys(machine for outcome in later for machine in outcome.machines)
    # Steps that several jobs begin with were done once; by one of these jobs, whose time has them, or by another.
    jobs = {one.id for outcome in later for one in outcome.finished}
    begun = {done: seconds for report in reports for done, seconds in reused_seconds(report).items()}
    others = sum(seconds for (job, _), seconds in begun.items() if job not in jobs)
    minutes = (sum(report.provenance.seconds for report in reports) + others) / 60
    return [
        "What differs from the paper:",
        "",
        f"- images: {DATA_SET}, on which every network is less accurate; the paper has lossless ones. "
        f"{accuracy.examples:,} test images, used once for each job, at its end: choices were made on "
        f"{scale.tuning_images:,} images held out of the training ones, which the original alone has learned. The "
        "service also measures after each step of a recipe; nothing was chosen by that.",
        f"- original: trained for {scale.original_epochs} epochs, {accuracy.top1:.2%}; the paper's has "
        f"{paper.ORIGINAL_TOP1:.2%}. A student that trains longer than its teacher can beat it: look at the accuracy "
        "beside what is kept of it.",
        f"- epochs: in the tables; the paper trains students for {paper.STUDENT_EPOCHS}, low-rank networks for "
        f"{paper.LOW_RANK_EPOCHS}, and prunes over {paper.PRUNING_STEPS:,} steps. "
        f"Where less than one epoch is left, table 1 prunes at {PRUNING_PART_RATE:g} of its learning rate.",
        f"- machine: {'; '.join(machines)}; {minutes:,.0f} minutes for these runs. Latency: ONNX Runtime, one image, "
        "one thread, fp32 unless said; the paper gives none.",
        "- bytes: of the smallest file with the network's own outputs, over the fp32 bytes of the original; the paper "
        "counts zeros as if they took no room.",
        "- spread: ± is the standard deviation over seeds; a figure without it is of one seed.",
    ]


def write(
    folder: Path, scale: Scale, outcomes: Mapping[str, Outcome], failures: Mapping[str, str], plan: Plan
) -> list[Path]:
    """Write `slimnets-<scale>.json`, `.md` and the plots; gives their paths."""
    found = document(scale, outcomes, failures, plan)
    stem = f"slimnets-{scale.name}"
    texts = {f"{stem}.json": json.dumps(found, indent=1) + "\n"}
    texts[f"{stem}.md"] = f"# SlimNets through the service\n\n{markdown(scale, outcomes, found)}"
    texts |= {f"{stem}-{name}.svg": text for name, text in plots(outcomes).items()}
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def page(texts: Sequence[str], folder: str) -> str:
    """`docs/results.md` of the JSON files of several scales; says of a scale without one that it was not measured."""
    by_scale = {scale.name: (scale, outcomes, found) for scale, outcomes, found in map(read, texts)}
    parts = [
        "# Results",
        "",
        f"The tables of {paper.SOURCE} repeated through the service, on {DATA_SET}, and our own recipes beside them. "
        "Written by `python -m benchmarks.slimnets`; [benchmarks](../benchmarks/README.md) says how.",
        "",
    ]
    for name, heading in (("full", "On a processor"), ("gpu", "On a GPU")):
        parts += [f"## {heading}", ""]
        if name in by_scale:
            parts.append(markdown(*by_scale[name], folder=folder))
        else:
            parts += [
                f"Not measured yet. `python -m benchmarks.slimnets{' --gpu' if name == 'gpu' else ''}` does it.",
                "",
            ]
    return "\n".join(parts)
