"""`modelpress compress`: the engine alone, on local files, without a service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import typer

from modelpress.client.cli import options, screen
from modelpress.client.compress import LocalModel
from modelpress.client.compress import compress as compress_files
from modelpress.client.progress import JobBars
from modelpress.client.recipe import Flags, choose_document, read_recipe
from modelpress.client.table import result_table
from modelpress.spec.architecture import ARCHITECTURES, ArchitectureRef
from modelpress.spec.event import Event, Progress, Warned
from modelpress.spec.job import Recipe
from modelpress.spec.network import Preprocessing

# A path may hold a colon, the name of an architecture does not; nor a slash, but for timm's.
_STUDENT = re.compile(
    r"(?P<name>[^=]+)=(?P<path>.+?)(?::(?P<architecture>(?:timm/)?\w+)(?::(?P<arguments>\{.*\}))?)?", re.DOTALL
)


def compress(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            exists=True,
            dir_okay=False,
            help=".pt2, ONNX, a state dict (safetensors or .pt), or an artifact of a job.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files and the report.")],
    architecture: options.Architecture = None,
    arguments: options.Arguments = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            "--dataset", exists=True, dir_okay=False, help="Zip or tar of class folders, CIFAR's archives, .npz, .npy."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="A file (YAML or JSON), or the name of a ready recipe; without it, flags name the steps.",
        ),
    ] = None,
    student: Annotated[
        list[str] | None,
        typer.Option(
            "--student",
            metavar="NAME=FILE[:ARCHITECTURE[:JSON]]",
            help="The model that a recipe's student {kind: uploaded, model: NAME} begins as, with its architecture's "
            "arguments; it sees pixels as MODEL does. An artifact of a job says all that itself. May be repeated.",
        ),
    ] = None,
    image_size: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    interpolation: options.Interpolation = "bilinear",
    seed: options.Seed = None,
    distill: options.Distill = None,
    factorize: options.Factorize = None,
    prune: options.Prune = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    teacher: options.Teacher = False,
    flip: options.Flip = False,
    crop_padding: options.CropPadding = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option("--device", help="Where to train; auto takes a GPU if there is one."),
    ] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; default: every core.")] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", min=1, help="Processes that share each batch of a training; default: one per GPU, else one."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compress a local model on this machine, without a service. Needs the extra `engine`."""
    flags = Flags(distill, factorize, prune, epochs, learning_rate, batch_size, teacher, flip, crop_padding)
    ref = _reference(architecture, arguments)
    preprocessing = options.read_preprocessing(mean, std, resize, interpolation)
    students = _students(student or (), ref, image_size, preprocessing)
    console = screen.err()
    with JobBars(console) as bars:

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                bars.show(model.name, event)
            elif isinstance(event, Warned):
                console.print(f"warning: {event.message}", markup=False)

        report = compress_files(
            LocalModel(model, ref, image_size, preprocessing),
            output,
            _recipe(recipe, flags, seed),
            dataset=dataset,
            students=students,
            device=device,
            threads=threads,
            processes=processes,
            on_event=show,
        )
    if as_json:
        screen.answer_json(report)
        return
    label = ", ".join(step.kind for step in report.provenance.recipe.steps)
    screen.out().print(result_table({label: report}))
    screen.hint(f"files and report are in {output}")


def _recipe(source: str | None, flags: Flags, seed: int | None) -> Recipe:
    document = choose_document(source, flags)
    return read_recipe(document if seed is None else document | {"seed": seed})


def _students(
    texts: Sequence[str], original: ArchitectureRef | None, image_size: int | None, preprocessing: Preprocessing | None
) -> dict[str, LocalModel]:
    """Students from `NAME=FILE[:ARCHITECTURE[:JSON]]`, made for the original's images. Raises typer.BadParameter."""
    size = image_size
    if size is None and original is not None:
        own = original.arguments.get("image_size", original.arguments.get("img_size"))
        size = own if isinstance(own, int) else ARCHITECTURES[original.architecture].input_shape[1]
    students: dict[str, LocalModel] = {}
    for text in texts:
        found = _STUDENT.fullmatch(text)
        if found is None:
            raise typer.BadParameter(
                f"--student {text!r}: write NAME=FILE:ARCHITECTURE, and the architecture's arguments as "
                "'NAME=FILE:ARCHITECTURE:{\"num_classes\": 10}'; NAME=FILE for an artifact of a job"
            )
        name, path = found["name"], Path(found["path"])
        if name in students:
            raise typer.BadParameter(f"--student {name} was given twice; name each student once")
        if not path.is_file():
            raise typer.BadParameter(f"--student {name}: there is no file {path}")
        reference = _reference(found["architecture"], found["arguments"], f"--student {name}")
        # A file that describes its network says how it takes its images, too.
        students[name] = LocalModel(path) if reference is None else LocalModel(path, reference, size, preprocessing)
    return students


def _reference(architecture: str | None, arguments: str | None, option: str = "--arguments") -> ArchitectureRef | None:
    given = options.read_arguments(arguments, option)
    if architecture is None:
        if given:
            raise typer.BadParameter("--arguments are those of an architecture: give --architecture too")
        return None
    return ArchitectureRef(architecture=_known(architecture), arguments=given)


def _known(architecture: str) -> str:
    if architecture not in ARCHITECTURES:
        close = [name for name in ARCHITECTURES if name.startswith(architecture)]
        close = (close or get_close_matches(architecture, ARCHITECTURES))[:3]
        advice = f"did you mean {' or '.join(close)}?" if close else "docs/guide/models-and-data.md lists them"
        raise typer.BadParameter(f"there is no architecture {architecture!r}; {advice}")
    return architecture
