"""Well-known networks through every format, in and out: how far are the outputs from those of the network itself?

In: the file is written by torch alone, as its owner writes it, read by our readers, and the outputs for random images
are compared with those of the eager network. Out: the network as it was read from its `.pt2` file is written as every
artifact, and a fresh process, with nothing but the files, proves them as it proves those of a job. Each network has a
process of its own, with one thread. Writes `benchmarks/results/formats.json` after every network, where networks
and formats that are not asked for stay as they are, and of it `docs/formats.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.format_networks import SUBJECTS
from benchmarks.result import RESULTS, commit
from benchmarks.round_trips import trips
from modelpress.engine.provenance import machine, versions
from modelpress.spec.cores import available_cores

PAGE = Path(__file__).parents[1] / "docs/formats.md"

READ = {
    "state_dict": "state dict",
    "pt2": "`.pt2`",
    "onnx_dynamo": "ONNX",
    "onnx_torchscript": "ONNX, older exporter",
}
WRITTEN = {
    "compact": "`compact`",
    "safetensors": "`safetensors`",
    "pt2": "`pt2`",
    "onnx": "`onnx`",
    "onnx_int8": "`onnx_int8`",
}
_SECONDS = 600  # of one network
_LONGEST_REASON = 300


def main() -> int:
    """Try what is asked for and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--only", nargs="*", choices=names, metavar="NETWORK", help="names, such as resnet50 (all)")
    parser.add_argument("--read", nargs="*", default=list(READ), choices=list(READ), help="formats in (all)")
    parser.add_argument("--written", nargs="*", default=list(WRITTEN), choices=list(WRITTEN), help="formats out (all)")
    parser.add_argument("--missing", action="store_true", help="only networks that the results do not have")
    parser.add_argument("--processes", type=int, default=available_cores(), help="networks at a time, a thread each")
    parser.add_argument("--output", type=Path, default=RESULTS / "formats.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--here", action="store_true", help="one network in this process, written to `--output` alone")
    options = parser.parse_args()
    if options.here:
        warnings.simplefilter("ignore")
        (subject,) = (subject for subject in SUBJECTS if subject.name in options.only)
        options.output.write_text(json.dumps(asdict(trips(subject, options.read, options.written))))
        return 0

    found: dict[str, dict[str, Any]] = {}
    if options.output.exists():
        found = json.loads(options.output.read_text())["networks"]
    asked = [name for name in options.only or names if not (options.missing and name in found)]
    with (
        tempfile.TemporaryDirectory(prefix="modelpress-formats-") as folder,
        ThreadPoolExecutor(options.processes) as pool,
    ):
        columns = ["--read", *options.read, "--written", *options.written]
        running = {pool.submit(_in_a_process, name, columns, Path(folder)): name for name in asked}
        for done in as_completed(running):
            name = running[done]
            found[name] = _beside(found.get(name, {}), done.result())
            result = {
                "benchmark": "formats",
                "command": "python -m benchmarks.formats",
                "machine": machine(torch.device("cpu")),
                "versions": {**versions(), "timm": version("timm")},
                "networks": {known: found[known] for known in names if known in found},
            }
            options.output.write_text(json.dumps(result, indent=2) + "\n")
            options.page.write_text(page(result))
            print(f"{name} ({found[name]['seconds']:.0f} s): {_line(found[name])}", flush=True)
    return 0


def _beside(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was found of a network, with what was known of formats that were not asked for."""
    kept = {part: {**before.get(part, {}), **now[part]} for part in ("read", "written") if part in now}
    return {**now, **kept}


def _in_a_process(name: str, columns: list[str], folder: Path) -> dict[str, Any]:
    """What a process of its own finds of one network; why there is nothing, when it ends otherwise."""
    answer = folder / f"{re.sub('[^a-z0-9_]', '-', name)}.json"
    command = [sys.executable, "-m", "benchmarks.formats", "--here", "--only", name, *columns]
    command += ["--output", str(answer)]
    began = time.perf_counter()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        if ended.returncode == 0:
            found: dict[str, Any] = json.loads(answer.read_text())
        else:
            last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
            found = {"failure": f"its process ended with code {ended.returncode}: {last}"}
    except subprocess.TimeoutExpired:
        found = {"failure": f"its process took more than {_SECONDS} s"}
    return {**found, "commit": commit(), "seconds": round(time.perf_counter() - began, 1)}


def _line(network: Mapping[str, Any]) -> str:
    if "failure" in network:
        return str(network["failure"])
    trips = [*network["read"].items(), *network["written"].items()]
    return ", ".join(f"{format} {_figure(trip) or trip['status']}" for format, trip in trips)


def _figure(trip: Mapping[str, Any]) -> str | None:
    """The difference of outputs that came back, of the largest one."""
    if trip["status"] != "came_back":
        return None
    return "0" if trip["difference"] == 0 else f"{trip['relative']:.1e}"


class _Notes:
    """Footnotes: one for all places that say the same."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, text: str) -> str:
        """The mark of a note that says this."""
        shortened = re.sub(r"\s+", " ", text)
        if len(shortened) > _LONGEST_REASON:
            shortened = shortened[:_LONGEST_REASON].rpartition(" ")[0] + " ..."
        return f"[^{self._numbers.setdefault(shortened, len(self._numbers) + 1)}]"

    def lines(self) -> list[str]:
        """All notes, in the order of their first marks."""
        return [f"[^{number}]: {text}" for text, number in self._numbers.items()]


_WORDS = {"refused": "refused", "not_exported": "no export", "failed": "**failed**", "not_asked": "-"}


def _cell(trip: Mapping[str, Any] | None, notes: _Notes) -> str:
    if trip is None:
        return "not tried"
    figure = _figure(trip)
    return figure if figure is not None else _WORDS[trip["status"]] + notes.mark(trip["reason"])


def page(result: Mapping[str, Any]) -> str:
    """The table as Markdown, with the reason of each refusal below it."""
    networks, notes = result["networks"], _Notes()
    lines = [
        "# Which network comes through which format",
        "",
        "The largest absolute difference between the outputs of a network and of what was made of its file, over the",
        "largest output; `0` is the same to the last bit. Weights are random, batch norms have taken statistics, and",
        "what initialisations leave at zero or one is not: from image to image, outputs differ by at least "
        f"{_least_spread(networks.values()):.0%}",
        "of the largest. Images are as small as the network takes sensibly.",
        "",
        "**In**: the file is written by torch alone, as its owner writes it: the state dict of an architecture that",
        "has a name here, `.pt2` by `torch.export` and ONNX by `torch.onnx.export(dynamo=True)`, with a batch of any",
        "size, and ONNX by torch's older exporter (`dynamo=False`). Our readers read it, and their network is held",
        "against the eager one.",
        "",
        "**Out**: the network as it was read from its `.pt2` file is written as every artifact. A process that has",
        "nothing but the files loads each in its own runtime (our loader, `torch.export.load`, ONNX Runtime), as the",
        "proof of a job does, and holds it against that network; `onnx_int8`, which rounds by design, against the same",
        "file computed in fp32.",
        "",
        f"    {result['command']}",
        "",
        f"Made on {result['machine']['processor']}, {', '.join(_named(result['versions']))}.",
        "",
        f"| network | image | parameters | {' | '.join(f'in: {title}' for title in READ.values())} | "
        f"{' | '.join(f'out: {title}' for title in WRITTEN.values())} |",
        f"|---|---|--:|{'---|' * (len(READ) + len(WRITTEN))}",
    ]
    for subject in SUBJECTS:
        if subject.name not in networks:
            continue
        row = networks[subject.name]
        title = f"{subject.family} (`{subject.name}`)"
        if "failure" in row:
            cells = [f"**failed**{notes.mark(row['failure'])}", *[""] * (len(READ) + len(WRITTEN) - 1)]
            lines.append(f"| {title} | {subject.size} | | {' | '.join(cells)} |")
            continue
        title += notes.mark(f"not taken as an upload: {row['upload']}") if row["upload"] else ""
        cells = [_cell(row["read"].get(source), notes) for source in READ]
        cells += [_cell(row["written"].get(kind), notes) for kind in WRITTEN]
        lines.append(f"| {title} | {subject.size} | {row['parameters'] / 1e6:.2f} M | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *notes.lines()]).rstrip("\n") + "\n"


def _least_spread(networks: Iterable[Mapping[str, Any]]) -> float:
    return min((network["spread"] for network in networks if "spread" in network), default=0.0)


def _named(versions: Mapping[str, str]) -> list[str]:
    return [f"{name} {versions[name]}" for name in ("torch", "torchvision", "timm", "onnxruntime") if name in versions]


if __name__ == "__main__":
    sys.exit(main())
