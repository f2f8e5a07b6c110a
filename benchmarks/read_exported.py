"""Reading and lifting a `.pt2` file against torch's own reader.

The network is exported once, with a batch of any size; then both read the file, in turns; seconds, medians. Ours also
runs the graph three times on three images, for its outputs, for the shapes of its values and as layers, to show that
layers give the same; torch's leaves that out.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build, input_shape
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.spec.architecture import ArchitectureRef


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def write(name: str, path: Path) -> None:
    """The file, as a user writes it."""
    architecture = ArchitectureRef(architecture=name)
    torch.manual_seed(0)
    images = torch.randn(2, *input_shape(architecture))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(build(architecture).eval(), (images,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def main() -> None:
    """Measure, write, print."""
    parser = arguments("read_exported", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--network", default="resnet50", help="a name of `GET /v1/architectures`")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt2"
        write(options.network, path)
        lifted_network(pt2.read(path))  # what is loaded and made once
        torch.export.load(path)
        for turn in range(options.rounds):
            ours.append(seconds(lambda: lifted_network(pt2.read(path))))
            theirs.append(seconds(lambda: torch.export.load(path)))
            print(f"round {turn + 1}: ours {ours[-1]:.2f} s, torch {theirs[-1]:.2f} s", flush=True)
    ratios = tuple(own / other for own, other in zip(ours, theirs, strict=True))
    baseline = {"own_seconds": median(ours), "torch_export_load_seconds": median(theirs)}
    name = f"{options.network}: reading, lifting and checking / torch.export.load"
    figures = [Figure(name, median(ratios), at_most=2.0, samples=ratios, baseline=baseline)]
    conditions = {"network": options.network, "threads": options.threads, "rounds": options.rounds}
    publish(options.output, "Reading an exported network against torch's own reader", conditions, figures)


if __name__ == "__main__":
    main()
