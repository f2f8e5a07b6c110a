"""`python -m demo`: the main job, end to end, on the embedded default (what `make demo` runs)."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from demo import cifar10, digits
from demo.comparison import compare
from demo.original import TrainingReport
from demo.prepared import Prepared
from demo.recipes import RECIPES, read_recipes, with_epochs, within_budget
from demo.service import running_service
from modelpress.client import ModelPressError
from modelpress.client.ending import end_as_by_ctrl_c
from modelpress.client.progress import JobBars
from modelpress.engine.journal import TrainingProgress
from modelpress.spec.event import Progress
from modelpress.spec.failure import CompressionError

# Without a GPU an epoch of VGG-19 takes minutes; in full the recipes of cifar10 would take days.
CPU_BUDGET_MINUTES = 45.0


def main(arguments: list[str]) -> int:
    """Run the demo; exit code 0 when every result is what its report says."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    end_as_by_ctrl_c()
    began = time.monotonic()
    folder = options.folder / options.dataset
    try:
        # What an earlier run left would make this one differ; the downloaded data is kept.
        for name in ("home", "results"):
            shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        prepared = _prepare(options, folder, console)
        recipes = _recipes(options, prepared)
        console.print(f"starting the service (API, database, queue, workers), its data in {folder / 'home'}")
        with running_service(folder / "home", folder / "service.log") as client:
            console.print(f"it answers at {client.url}\n")
            compare(client, prepared, recipes, folder / "results", console)
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; nothing goes on in the background\n")
        return 130
    except (ModelPressError, CompressionError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    console.print(f"done in {minutes} min {seconds} s; the service has been stopped")
    return 0


def _prepare(options: argparse.Namespace, folder: Path, console: Console) -> Prepared:
    with JobBars(console) as bars:
        tell = _training_bar(bars)
        if options.dataset == "digits":
            console.print("training a small VGG-13 on scikit-learn's digits, scaled to 32x32")
            prepared = digits.prepare(folder, options.train_epochs, tell)
        elif options.data is not None:
            console.print(f"taking the trained VGG-19 and CIFAR-10 from {options.data}")
            prepared = cifar10.prepare_given(options.data, folder)
        else:
            console.print("MODELPRESS_DATA is not set: downloading CIFAR-10 and training a VGG-19 on it")
            prepared = cifar10.prepare_downloaded(folder, options.train_epochs, tell)
    console.print(f"{prepared.title}\n")
    return prepared


def _recipes(options: argparse.Namespace, prepared: Prepared) -> list[dict[str, Any]]:
    recipes = [with_epochs(recipe, options.epochs) for recipe in read_recipes(options.dataset, options.only)]
    if options.dataset == "digits" or options.epochs is not None:
        return recipes
    budget = options.budget or (None if cifar10.has_gpu() else CPU_BUDGET_MINUTES)
    if budget is None:
        return recipes
    return within_budget(recipes, budget, cifar10.seconds_per_forward(), prepared.train_examples)


def _training_bar(bars: JobBars) -> TrainingReport:
    def tell(progress: TrainingProgress) -> None:
        bars.show(
            "original",
            Progress(
                stage="step",
                step=0,
                steps=1,
                step_kind="train",
                fraction=progress.fraction,
                epoch=progress.epoch,
                epochs=progress.epochs,
                metrics={"loss": progress.metrics["loss"]},
            ),
        )

    return tell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--dataset",
        choices=("digits", "cifar10"),
        default="digits",
        help="digits: a small VGG, no download, minutes. cifar10: VGG-19, as in the paper",
    )
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=RECIPES, help="recipes (all)")
    parser.add_argument("--epochs", type=_positive, help="epochs of every training in the recipes, instead of theirs")
    parser.add_argument(
        "--budget", type=float, metavar="MINUTES", help="scale the epochs of cifar10's recipes down to about so long"
    )
    parser.add_argument("--train-epochs", type=_positive, help="epochs of the original, where it is trained here")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("MODELPRESS_DATA") or None,
        help="folder with vgg19-cifar10.* and cifar10-*.zip (MODELPRESS_DATA)",
    )
    parser.add_argument("--folder", type=Path, default=Path("var/demo"), help="where everything is kept (var/demo)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
