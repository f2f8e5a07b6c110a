"""Every table of SlimNets, and our recipes, through a service that is started here: `python -m benchmarks.slimnets`.

A run that was stopped goes on where it was when it is started again with the same arguments: the service's data and a
file for each finished job are in the work folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.result import RESULTS
from benchmarks.slimnets import results
from benchmarks.slimnets.budget import LEAST_EPOCH, POTS, Machine, name_of
from benchmarks.slimnets.campaign import Campaign
from benchmarks.slimnets.finished import write_text
from benchmarks.slimnets.images import write_datasets
from benchmarks.slimnets.plan import Plan, machine, planned
from benchmarks.slimnets.runs import TABLES, Run
from benchmarks.slimnets.scale import SCALES, Scale
from benchmarks.slimnets.selection import all_runs, runs_of
from benchmarks.slimnets.session import Session, draw_weights, upload_result, upload_weights, uploaded
from benchmarks.slimnets.speeds import measured, networks
from demo.cifar10 import FACTS, WEIGHTS
from demo.service import running_service
from modelpress.client import Client, ModelPressError
from modelpress.client.ending import end_as_by_ctrl_c
from modelpress.client.progress import JobBars
from modelpress.spec.resources import Model

PAGE = Path(__file__).parent.parent.parent / "docs" / "results.md"


def main(arguments: list[str]) -> int:
    """Carry out what is not done yet, and write what there is; exit code 0 when every run succeeded."""
    options = _parser().parse_args(arguments)
    scale = SCALES[options.scale]
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    end_as_by_ctrl_c()
    try:
        return _run(options, scale, console)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on from here\n")
        return 130
    except ModelPressError as error:
        sys.stderr.write(f"slimnets: {error}\n")
        return 1


def _run(options: argparse.Namespace, scale: Scale, console: Console) -> int:
    work = options.work / scale.name
    runs = [replace(run, seeds=run.seeds[: options.seeds]) for run in runs_of(scale, options.tables, options.only)]
    if not runs:
        raise ModelPressError("no run of this scale has that table or name; `--list` names them")
    if options.list:
        for run in runs:
            console.print(f"table {run.table}: {run.name}: {run.title}", markup=False)
        return 0
    if options.data is None:
        raise ModelPressError(
            "set MODELPRESS_DATA to the folder with cifar10-*.zip and vgg19-cifar10.*, or give --data"
        )
    if options.published:
        path = (options.results or RESULTS) / f"slimnets-{scale.name}.json"
        if not path.is_file():
            raise ModelPressError(f"{path} is not there; leave --published out to measure everything here")
        console.print(f"{results.restore(path.read_text(), work)} jobs of {path.name} count as finished", markup=False)
    plan = planned(work, runs, scale, options.budget, lambda new: _timed(new, scale, console))
    for table, share in sorted(plan.shares.items()):
        least = LEAST_EPOCH if share else 1
        console.print(
            f"table {table} ({TABLES[table]}): {100 * share:.3g}% of its epochs, {least:g} at least", markup=False
        )
    if options.threads is not None:
        os.environ["MODELPRESS_THREADS"] = str(options.threads)
    campaign = Campaign(work / results.RUNS, plan.shares, scale.original_epochs)
    if options.write:
        _write(options, scale, campaign, plan, console)
        return 0
    datasets = write_datasets(options.data, work / "data", scale)
    try:
        with running_service(work / "home", work / "service.log") as client, JobBars(console) as bars:
            ids = {data: _dataset(client, data, path) for data, path in datasets.items()}
            model = _begin(client, scale, options.data, work)
            if scale.trains_original:
                first = Session(client, model.id, ids, work / "curves", bars)
                campaign.carry_out(all_runs(scale)[:1], first.perform)
                model = _trained(client, campaign, work)
            campaign.carry_out(runs, Session(client, model.id, ids, work / "curves", bars).perform)
    finally:
        _write(options, scale, campaign, plan, console)
    for name, reason in campaign.failures.items():
        sys.stderr.write(f"slimnets: {name} failed: {reason}\n")
    return 1 if campaign.failures else 0


def _timed(runs: Sequence[Run], scale: Scale, console: Console) -> Machine:
    console.print("timing the networks on this machine")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return machine(scale, name_of(scale.original), measured(networks(runs, scale.original), device))


def _begin(client: Client, scale: Scale, data: Path, work: Path) -> Model:
    """The given VGG-19 or, where the original is trained first, one with weights drawn at random."""
    path = data / WEIGHTS
    if scale.trains_original:
        path = work / "data" / "untrained.safetensors"
        draw_weights(path, scale.original)
    return upload_weights(client, path, scale.original, data / FACTS)


def _trained(client: Client, campaign: Campaign, work: Path) -> Model:
    """The original that the service has trained, uploaded again. Raises ModelPressError when its training failed."""
    outcome = campaign.outcomes.get("original")
    if outcome is None:
        raise ModelPressError(f"the original could not be trained: {campaign.failures['original']}")
    return upload_result(client, outcome.finished[0].id, work / "original")


def _dataset(client: Client, name: str, path: Path) -> str:
    return uploaded(client.datasets(), name, lambda: client.upload_dataset(path, name=name)).id


def _write(options: argparse.Namespace, scale: Scale, campaign: Campaign, plan: Plan, console: Console) -> None:
    """Everything that the work folder has: of this run, and of runs before it."""
    everything = Campaign(campaign.folder, plan.shares, scale.original_epochs, failures=campaign.failures)
    everything.gather(all_runs(scale))
    if not everything.outcomes:
        return
    folder = options.results or (RESULTS if scale.published else options.work / scale.name / "results")
    paths = results.write(folder, scale, everything.outcomes, campaign.failures, plan)
    if scale.published and options.results is None:
        texts = [path.read_text() for path in sorted(RESULTS.glob("slimnets-*.json"))]
        paths.append(write_text(PAGE, results.page(texts, "../benchmarks/results/")))
    for path in paths:
        console.print(str(path), markup=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slimnets", description=__doc__)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--scale",
        choices=SCALES,
        default="full",
        help="; ".join(f"{one.name}: {one.summary}" for one in SCALES.values()),
    )
    sizes.add_argument("--short", dest="scale", action="store_const", const="short", help="the same as --scale short")
    sizes.add_argument("--gpu", dest="scale", action="store_const", const="gpu", help="the same as --scale gpu")
    parser.add_argument("--budget", type=float, metavar="MINUTES", help="choose epochs so that all takes about so long")
    parser.add_argument("--tables", type=int, nargs="+", choices=sorted(chain(*POTS)), help="these alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="runs by their names alone")
    parser.add_argument("--seeds", type=int, help="of runs with several seeds, the first so many (all)")
    parser.add_argument("--list", action="store_true", help="name the runs, and do nothing")
    parser.add_argument("--write", action="store_true", help="write the results of what has finished, and run nothing")
    parser.add_argument(
        "--published",
        action="store_true",
        help="count the results that lie in --results as finished, and add to them what they lack (else the work "
        "folder's alone count, and results are written of these)",
    )
    parser.add_argument("--threads", type=int, help="processor threads of a job (all cores)")
    parser.add_argument(
        "--work", type=Path, default=Path("var/slimnets"), help="what a stopped run goes on with (var/slimnets)"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="where results are written (benchmarks/results; in the work folder for small scales)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("MODELPRESS_DATA") or None,
        help="folder with vgg19-cifar10.* and cifar10-*.zip (MODELPRESS_DATA)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
