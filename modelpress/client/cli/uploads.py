"""`modelpress upload model|dataset`, `models`, `model`, `datasets`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from modelpress.client.cli import options, screen
from modelpress.client.client import Client
from modelpress.client.inspection_table import estimates_table, layers_table, reasons_table, types_table
from modelpress.client.progress import ByteBar
from modelpress.spec.figures import in_bytes, in_counts
from modelpress.spec.network import CropCentre, Preprocessing
from modelpress.spec.resources import Dataset, Model

upload = typer.Typer(help="Upload a model or a data set.", no_args_is_help=True)


@upload.command("model")
def upload_model(
    file: options.ExistingFile,
    architecture: options.Architecture = None,
    arguments: options.Arguments = None,
    image_size: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    resize: options.Resize = None,
    interpolation: options.Interpolation = "bilinear",
    name: options.Name = None,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Upload a network (.pt2, ONNX), a state dict (safetensors or .pt) or a job's artifact, and print its id."""
    given = options.read_arguments(arguments)
    preprocessing = options.read_preprocessing(mean, std, resize, interpolation)
    with Client(url) as client, ByteBar(screen.err()) as bar:
        model = client.upload_model(
            file,
            architecture=architecture,
            arguments=given,
            name=name,
            image_size=image_size,
            mean=None if preprocessing is None else preprocessing.mean,
            std=None if preprocessing is None else preprocessing.std,
            resize=_resize_of(preprocessing),
            interpolation=interpolation,
            on_progress=lambda sent, size: bar.show(file.name, sent, size),
        )
    _answer(model, as_json)
    if model.inspection is not None:
        found = model.inspection
        screen.hint(
            f"ready: {screen.architecture_of(model)}, {in_counts(found.parameters)} parameters, "
            f"{in_counts(found.macs)} MACs, {in_bytes(found.fp32_bytes)} in fp32; see `modelpress model {model.id}`"
        )
        for note in found.notes:
            screen.hint(note)


@upload.command("dataset")
def upload_dataset(
    file: options.ExistingFile, name: options.Name = None, url: options.Url = None, as_json: options.Json = False
) -> None:
    """Upload a data set (zip or tar of class folders, CIFAR's archives, .npz, .npy) and print its id."""
    with Client(url) as client, ByteBar(screen.err()) as bar:
        dataset = client.upload_dataset(file, name=name, on_progress=lambda sent, size: bar.show(file.name, sent, size))
    _answer(dataset, as_json)
    if dataset.inspection is not None:
        found = dataset.inspection
        split = "10% held out by the seed" if found.heldout_examples is None else f"{found.heldout_examples} held out"
        classes = f"{len(found.classes)} classes" if found.classes else "no labels"
        screen.hint(f"ready: {classes}, {found.train_examples} images, {split}")
        means, deviations = (
            ", ".join(f"{value:.4f}" for value in values) for values in (found.statistics.mean, found.statistics.std)
        )
        screen.hint(f"pixels: mean {means}, standard deviation {deviations}")


def _resize_of(preprocessing: Preprocessing | None) -> int | Literal["stretch"] | None:
    resize = None if preprocessing is None else preprocessing.resize
    return resize.shorter_side if isinstance(resize, CropCentre) else None if resize is None else "stretch"


def models(url: options.Url = None, as_json: options.Json = False) -> None:
    """List the models, newest first."""
    with Client(url) as client:
        found = list(client.models())
    if as_json:
        screen.answer_json(found)
        return
    headings = ("id", "name", "state", "architecture", "size", "parameters", "uploaded")
    screen.answer_table(headings, [_model_row(model) for model in found])


def model(
    model: Annotated[str, typer.Argument(help="Id of the model.")],
    layers: Annotated[bool, typer.Option("--layers", help="List each layer, too.")] = False,
    url: options.Url = None,
    as_json: options.Json = False,
) -> None:
    """Show what a model is, and the size of the file that each method would make of it: an estimate."""
    with Client(url) as client:
        found = client.model(model)
    if as_json:
        screen.answer_json(found)
        return
    screen.answer(f"{found.id}  {found.name}  {screen.architecture_of(found)}  {found.state.value}")
    if found.failure is not None:
        screen.answer(found.failure.message)
    seen = found.inspection
    if seen is None:
        return
    shapes = [" x ".join(map(str, shape)) for shape in (seen.input_shape, seen.output_shape)]
    screen.answer(
        f"input {shapes[0]}, output {shapes[1]}, {in_counts(seen.parameters)} parameters, {in_counts(seen.macs)} MACs, "
        f"{in_bytes(seen.fp32_bytes)} in fp32"
    )
    if seen.layer_types:
        screen.out().print(types_table(seen))
    if layers:
        screen.out().print(layers_table(seen))
    if seen.estimates:
        screen.out().print(estimates_table(seen))
        if (reasons := reasons_table(seen)).row_count:
            screen.out().print(reasons)


def datasets(url: options.Url = None, as_json: options.Json = False) -> None:
    """List the data sets, newest first."""
    with Client(url) as client:
        found = list(client.datasets())
    if as_json:
        screen.answer_json(found)
        return
    headings = ("id", "name", "state", "classes", "images", "size", "uploaded")
    screen.answer_table(headings, [_dataset_row(dataset) for dataset in found])


def _model_row(model: Model) -> tuple[str, ...]:
    parameters = "" if model.inspection is None else in_counts(model.inspection.parameters)
    size = in_bytes(model.size)
    return (*_start(model), screen.architecture_of(model), size, parameters, screen.when(model.created_at))


def _dataset_row(dataset: Dataset) -> tuple[str, ...]:
    seen = dataset.inspection
    counts = ("", "") if seen is None else (str(len(seen.classes)), str(seen.train_examples))
    return (*_start(dataset), *counts, in_bytes(dataset.size), screen.when(dataset.created_at))


def _answer(upload: Model | Dataset, as_json: bool) -> None:
    if as_json:
        screen.answer_json(upload)
    else:
        screen.answer(upload.id)


def _start(upload: Model | Dataset) -> tuple[str, str, str]:
    return upload.id, upload.name, upload.state.value
