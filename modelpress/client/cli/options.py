"""Options that several commands share, and what they mean together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from modelpress.spec import network
from modelpress.spec.network import Preprocessing, read_resize

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Address of the service. Default: MODELPRESS_URL, then this machine's own service."),
]
Name = Annotated[str | None, typer.Option("--name", help="A label of your own.")]

Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        "-a",
        help="Name of the network that a state dict is of, such as vgg19_bn_cifar or resnet18; leave it out for .pt2, "
        "ONNX and the artifacts of a job.",
    ),
]
Arguments = Annotated[
    str | None, typer.Option("--arguments", metavar="JSON", help="Its arguments, such as '{\"num_classes\": 10}'.")
]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", min=1, help="Height and width, where not the architecture's own.")
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="M,M,M", help="What was subtracted per channel from pixels in 0..1, with --std."),
]
Std = Annotated[str | None, typer.Option("--std", metavar="S,S,S", help="What they were divided by, with --mean.")]
Resize = Annotated[
    str | None,
    typer.Option(
        "--resize",
        metavar="PIXELS",
        help="Images of any size are taken: their shorter side is resized to so many pixels, and the middle cut out; "
        "or `stretch`. With --mean and --std.",
    ),
]
Interpolation = Annotated[
    network.Interpolation, typer.Option("--interpolation", help="How --resize finds pixels between pixels.")
]

Distill = Annotated[
    str | None, typer.Option("--distill", metavar="STUDENT", help="Train this architecture after the original.")
]
Factorize = Annotated[
    str | None,
    typer.Option("--factorize", metavar="RANK", help="Thinner pairs of layers: energy=0.9, ratio=0.25 or rank=16."),
]
Prune = Annotated[
    float | None, typer.Option("--prune", metavar="SPARSITY", help="Share of the weights to set to zero, such as 0.75.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Training of each step, in passes over the data.")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Highest learning rate of each training.")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Images per training step.")]
Teacher = Annotated[
    bool,
    typer.Option("--teacher/--no-teacher", help="Learn from the original's outputs while factorizing and pruning."),
]
Flip = Annotated[bool, typer.Option("--flip", help="Mirror half of the training images: for photographs.")]
CropPadding = Annotated[
    int | None, typer.Option("--crop-padding", min=0, help="Shift the training images by up to this many pixels.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn at random.")]

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job (job_...).", show_default=False)]
ExistingFile = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, show_default=False)
]


_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]i?b|b|)", re.IGNORECASE)
_UNITS: dict[str, int] = {"": 1, "b": 1} | {
    f"{prefix}{middle}b": base**power
    for middle, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt", 1)
}


def read_arguments(text: str | None, option: str = "--arguments") -> dict[str, Any]:
    """Arguments of an architecture from their JSON; `option` is what gave them. Raises typer.BadParameter."""
    if text is None:
        return {}
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"{option} is not JSON ({error}); write it as '{{\"num_classes\": 10}}'") from None
    if not isinstance(arguments, dict):
        raise typer.BadParameter(f"{option} must be a JSON object, such as '{{\"num_classes\": 10}}'")
    return arguments


def read_preprocessing(
    mean: str | None,
    std: str | None,
    resize: str | None = None,
    interpolation: network.Interpolation = "bilinear",
) -> Preprocessing | None:
    """Preprocessing from `0.5,0.5,0.5` and the like; None when nothing was given. Raises typer.BadParameter."""
    if mean is None and std is None:
        if resize is not None:
            raise typer.BadParameter("--resize is one part of the preprocessing: give --mean and --std with it")
        return None
    if mean is None or std is None:
        raise typer.BadParameter("--mean and --std belong together: give both or neither")
    try:
        policy = None if resize is None else read_resize(resize, interpolation)
    except ValueError as error:
        raise typer.BadParameter(f"--resize {resize!r}: {error}") from None
    return Preprocessing(mean=_numbers("--mean", mean), std=_numbers("--std", std), resize=policy)


def read_needs(
    device: str | None, cores: int | None, memory: str | None, gpu_memory: str | None
) -> dict[str, Any] | None:
    """What a job needs; None when nothing was given. Raises typer.BadParameter."""
    needs = {
        "device": device,
        "cores": cores,
        "memory_bytes": None if memory is None else _size("--memory", memory),
        "gpu_memory_bytes": None if gpu_memory is None else _size("--gpu-memory", gpu_memory),
    }
    return {name: value for name, value in needs.items() if value is not None} or None


def _size(option: str, text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{option} {text!r}: write a size such as 16GiB, 500MB or a number of bytes")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: write one number per channel, as in 0.49,0.48,0.45") from None
    if option == "--std" and min(numbers) <= 0:
        raise typer.BadParameter(f"--std {text!r}: each must be above 0")
    return numbers
