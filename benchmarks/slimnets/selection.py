"""Which runs a scale has, and which candidate of a run is chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import islice

from benchmarks.slimnets.finished import Finished
from benchmarks.slimnets.recipes import RECIPES
from benchmarks.slimnets.runs import Run, original, paper_runs
from benchmarks.slimnets.scale import Scale


def runs_of(scale: Scale, tables: Collection[int] | None = None, only: Collection[str] | None = None) -> list[Run]:
    """The runs of a scale, in the order in which they are carried out; of some tables or names alone.

    Table 4 is made of the other tables' runs.
    """
    found = []
    for run in [*paper_runs(scale.width), *RECIPES]:
        if (scale.marked_only and not run.short) or (only and run.name not in only):
            continue
        if run.table not in scale.tables or (tables and run.table not in tables):
            continue
        candidates = dict(islice(run.candidates.items(), scale.candidates))
        ablated = run.ablated and scale.ablates
        found.append(replace(run, candidates=candidates, seeds=run.seeds[: scale.seeds], ablated=ablated))
    return found


def all_runs(scale: Scale) -> list[Run]:
    """Those, and before them the original where the scale trains it."""
    first = [original(scale.original_epochs, scale.original)] if scale.trains_original else []
    return [*first, *runs_of(scale)]


def choose(run: Run, tried: Mapping[str, Finished]) -> str:
    """The smallest or the fastest candidate of those that come close to the highest accuracy on the tuning images.

    `tried` holds what each candidate reached on images that were held out of the training ones. Raises ValueError when
    none was tried.
    """
    best = max(finished.top1 for finished in tried.values())
    close = {name: finished for name, finished in tried.items() if finished.top1 >= run.accuracy_of_best * best}
    return min(close, key=lambda name: close[name].stored_bytes if run.least == "bytes" else close[name].latency_ms)
