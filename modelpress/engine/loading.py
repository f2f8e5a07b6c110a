"""What a compression begins with: the model, the data and uploaded students read, the recipe checked against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from modelpress.engine.data.dataset import ImageData, read_dataset
from modelpress.engine.data.fit import Fit
from modelpress.engine.device import choose_device
from modelpress.engine.inspect_model import inspect_model
from modelpress.engine.measure import outputs_of
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.spec.check import check
from modelpress.spec.failure import IncompatibleSpec, InvalidModel
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import Compress, ModelFile


@dataclass(frozen=True)
class Inputs:
    """The inputs of a compression."""

    original: Network  # with its preprocessing, and with the names of its classes where there is data
    data: ImageData | None
    macs: int  # of the original, for one image
    fp32_bytes: int  # of the original's plain state dict as an fp32 safetensors file
    students: Mapping[str, Network]  # uploaded ones by the ids that the recipe names


def load_inputs(task: Compress, folder: Path, warn: Callable[[str], None]) -> Inputs:
    """Read the files of `task`, which lie in `folder`; `warn` is told what had to be assumed.

    Raises InvalidModel, InvalidDataset, and IncompatibleSpec with every misfit, the same that the API names.
    """
    inspection = inspect_model(task.model, folder)
    for note in inspection.notes:
        warn(note)
    data = None
    if task.dataset is not None:
        given = inspection.network.preprocessing
        fit = Fit(inspection.network.input_shape, None if given is None else given.resize)
        data = read_dataset(folder / task.dataset.path, task.recipe.seed, fit=fit)
    students = {name: _inspect_student(name, file, folder) for name, file in task.students.items()}
    misfits = check(task.recipe, inspection, _inspection(data), students)
    if misfits:
        raise IncompatibleSpec("; ".join(f"{misfit.where}: {misfit.message}" for misfit in misfits))
    original = load_original(task.model, folder)
    _complete(original, data, warn)
    if data is not None and not data.classes:
        data = label_by(original, data, choose_device(task.device))
        warn(
            "no image of the data set has a label, so the original's own answers are taken for the labels of the "
            f"{len(data.heldout_labels)} held-out images: every accuracy is the share on which a network answers as "
            "the original does"
        )
    return Inputs(
        original=original,
        data=data,
        macs=inspection.macs,
        fp32_bytes=inspection.fp32_bytes,
        students={name: _load_student(name, file, folder, warn) for name, file in task.students.items()},
    )


def preprocessing_of(network: Network) -> Preprocessing:
    """The preprocessing of a network that `load_inputs` completed, or of one that steps made of it."""
    preprocessing = network.description.preprocessing
    if preprocessing is None:
        raise ValueError("the network has no preprocessing, though every step keeps the one it was given")
    return preprocessing


def label_by(original: Network, data: ImageData, device: torch.device) -> ImageData:
    """A data set without any label, its held-out images labelled by what `original`, on `device`, takes them for.

    The classes are named by their numbers.
    """
    module = original.module.to(device)
    outputs = outputs_of(module, data.heldout_images, preprocessing_of(original), device)  # (N, classes)
    module.to("cpu")
    names = tuple(str(label) for label in range(outputs.shape[1]))
    return replace(data, heldout_labels=outputs.argmax(1), classes=names)


def _inspect_student(name: str, file: ModelFile, folder: Path) -> ModelInspection:
    try:
        return inspect_model(file, folder)
    except InvalidModel as error:
        raise InvalidModel(f"the student {name!r}: {error.message}") from error


def _load_student(name: str, file: ModelFile, folder: Path, warn: Callable[[str], None]) -> Network:
    network = load_original(file, folder, lambda note: warn(f"the student {name!r}: {note}"))
    if network.description.preprocessing is None:
        warn(
            f"the student {name!r} was uploaded without preprocessing, so it is given pixels normalised as the "
            "original's are; if it was trained with others, upload it with `mean` and `std`"
        )
    return network


def _complete(network: Network, data: ImageData | None, warn: Callable[[str], None]) -> None:
    """Fill in what the upload did not say: the preprocessing and the names of the classes."""
    description = network.description
    preprocessing, classes = description.preprocessing, description.classes
    if preprocessing is None and data is not None:
        preprocessing = data.statistics
        warn(
            "the upload names no preprocessing, so pixels are normalised by the data set's own mean "
            f"{_rounded(preprocessing.mean)} and deviation {_rounded(preprocessing.std)}; if the model was trained "
            "with others, upload it with `mean` and `std`"
        )
    elif preprocessing is None:
        channels = description.input_shape[0]
        preprocessing = Preprocessing(mean=(0.0,) * channels, std=(1.0,) * channels)
        warn(
            "the upload names no preprocessing and there is no data to estimate it from: the files say that pixels "
            "are scaled to 0..1 and no more; upload the model with `mean` and `std` if it was trained otherwise"
        )
    if data is not None and data.classes:
        if classes not in (None, data.classes):
            warn(
                f"the model's file names its outputs {_named(classes)}, the data set its classes "
                f"{_named(data.classes)}: where their order differs, accuracies are wrong; the data set's names are "
                "kept"
            )
        classes = data.classes
    network.description = description.model_copy(update={"preprocessing": preprocessing, "classes": classes})


def _inspection(data: ImageData | None) -> DatasetInspection | None:
    """What `check` asks of a data set that is read already: reading it again to inspect it would cost as much."""
    if data is None:
        return None
    _, channels, height, width = data.train_images.shape
    return DatasetInspection(
        format="npz",  # not asked by the check
        classes=data.classes,
        train_examples=len(data.train_labels),
        unlabelled_examples=data.unlabelled,
        heldout_examples=len(data.heldout_labels),
        image_shape=(channels, height, width),
        statistics=data.statistics,
    )


def _named(classes: tuple[str, ...]) -> str:
    return ", ".join(name[:40] for name in classes[:5]) + (", ..." if len(classes) > 5 else "")


def _rounded(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:.4f}' for value in values)})"
