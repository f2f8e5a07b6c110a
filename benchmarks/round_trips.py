"""A network through each format: in by our readers, out by our writers and the proof of a job."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.format_networks import Subject, images, network
from modelpress.engine.graphs.exported import difference
from modelpress.engine.inspect_model import inspect_model
from modelpress.engine.measure import count_parameters
from modelpress.engine.network import Network
from modelpress.engine.original import load_original
from modelpress.engine.proof_request import WrittenFile
from modelpress.engine.proving import Exports, Prover
from modelpress.engine.reload import TOLERANCE
from modelpress.spec.failure import CompressionError
from modelpress.spec.inspection import ModelFormat
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import ModelFile

Source = Literal["state_dict", "pt2", "onnx_dynamo", "onnx_torchscript"]

_LARGEST_BATCH = 4096
_COMPARED, _CALIBRATION = 3, 8
_OLDER_OPSET = 17
_PREPROCESSING = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Trip:
    """How a network came through one format."""

    status: Literal["came_back", "refused", "not_exported", "failed", "not_asked"]
    difference: float | None = None  # largest, absolute, between outputs
    relative: float | None = None  # the same, of the largest output
    reason: str | None = None  # of the status, where it did not come back


@dataclass(frozen=True)
class Trips:
    """How a network came through all of them."""

    shape: tuple[int, int, int]
    parameters: int
    spread: float  # by how much outputs differ from image to image, of the largest: what a difference is to be held to
    read: dict[Source, Trip]
    written: dict[ArtifactKind, Trip]
    upload: str | None  # why the service does not take it, though the readers do


NO_NAME = Trip("not_asked", reason="no architecture has its name")


def trips(subject: Subject, read: Collection[Source], written: Collection[ArtifactKind]) -> Trips:
    """Take the network through these formats, on one thread."""
    torch.set_num_threads(1)
    module = network(subject)
    with tempfile.TemporaryDirectory(prefix="modelpress-formats-") as name:
        folder = Path(name)
        # What is written was read from `.pt2`, whether that is asked for or not.
        found = {
            source: _read(subject, module, source, folder) for source in FILES if source in read or source == "pt2"
        }
        given, upload = None, None
        if found["pt2"].status == "came_back":
            file = _upload(subject, "pt2", folder)
            given = load_original(file, folder)
            upload = _refusal_of_upload(given, file, folder)
        made = _written(given, subject, written, folder)
    return Trips(subject.shape, count_parameters(module), _spread(module, subject), found, made, upload)


def _spread(module: nn.Module, subject: Subject) -> float:
    with torch.inference_mode():
        outputs = module(images(subject, _COMPARED, seed=2))
    return float((outputs.amax(0) - outputs.amin(0)).max() / outputs.abs().max())


def _save_state(module: nn.Module, subject: Subject, path: Path) -> None:  # noqa: ARG001  one signature for all
    torch.save(module.state_dict(), path)


def _export(module: nn.Module, subject: Subject, path: Path) -> None:
    program = torch.export.export(module, (images(subject, 2, seed=1),), dynamic_shapes=_free_batch())
    torch.export.save(program, path)


def _export_onnx(module: nn.Module, subject: Subject, path: Path) -> None:
    example = (images(subject, 2, seed=1),)
    torch.onnx.export(
        module, example, path, dynamo=True, external_data=False, dynamic_shapes=_free_batch(), verbose=False
    )


def _export_onnx_torchscript(module: nn.Module, subject: Subject, path: Path) -> None:
    example = (images(subject, 2, seed=1),)
    free = {"images": {0: "batch"}, "scores": {0: "batch"}}
    names = {"input_names": ["images"], "output_names": ["scores"], "dynamic_axes": free}
    torch.onnx.export(module, example, path, dynamo=False, opset_version=_OLDER_OPSET, **names)


def _free_batch() -> tuple[dict[int, object]]:
    return ({0: torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)},)


FILES: dict[Source, tuple[ModelFormat, Callable[[nn.Module, Subject, Path], None]]] = {
    "state_dict": ("pt", _save_state),
    "pt2": ("pt2", _export),
    "onnx_dynamo": ("onnx", _export_onnx),
    "onnx_torchscript": ("onnx", _export_onnx_torchscript),
}
"""The format that a file is uploaded as, and how its owner writes it, by torch alone."""


def _upload(subject: Subject, source: Source, folder: Path) -> ModelFile:
    """The file as an upload of its owner's, who names the network where only that makes it readable."""
    named = subject.architecture if source == "state_dict" else None
    return ModelFile(
        path=_path(source, folder).name,
        format=FILES[source][0],
        architecture=named,
        image_size=subject.size if named is not None else None,
        preprocessing=_PREPROCESSING,
        sha256="0" * 64,
    )


def _path(source: Source, folder: Path) -> Path:
    return folder / f"{source}.{FILES[source][0]}"


def _read(subject: Subject, module: nn.Module, source: Source, folder: Path) -> Trip:
    """Write the file as its owner does, read it as the service does, and compare."""
    if source == "state_dict" and subject.architecture is None:
        return NO_NAME
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FILES[source][1](module, subject, _path(source, folder))
    except Exception as error:  # noqa: BLE001  # the exporters' errors have no common class
        return Trip("not_exported", reason=_in_short(error))
    try:
        found = load_original(_upload(subject, source, folder), folder)
    except CompressionError as error:
        return Trip("refused", reason=error.message)
    except Exception as error:  # noqa: BLE001  # a defect of ours is told, and the others are tried
        return Trip("failed", reason=_in_short(error))
    return compared(module, found.module, images(subject, _COMPARED, seed=2))


def compared(module: nn.Module, found: nn.Module, batch: Tensor) -> Trip:
    """How far the outputs that were found for a batch are from those of the module."""
    with torch.inference_mode():
        wanted = module(batch)
        largest = difference(wanted, found(batch))
    scale = float(wanted.abs().max())
    if not math.isfinite(largest) or not math.isfinite(scale) or scale == 0:
        return Trip("failed", reason="the outputs differ in shape, are not finite, or are all zero")
    return Trip("came_back", largest, largest / scale)


def _refusal_of_upload(given: Network, file: ModelFile, folder: Path) -> str | None:
    """Why the service would not take a file that can be read: it gives no scores of classes."""
    with torch.inference_mode():
        if given.module(torch.zeros(1, *given.description.input_shape)).ndim == 2:
            return None
    try:
        inspect_model(file, folder)
    except CompressionError as error:
        return error.message
    return None


def _written(
    given: Network | None, subject: Subject, kinds: Collection[ArtifactKind], folder: Path
) -> dict[ArtifactKind, Trip]:
    """Write the artifacts of the network, and have them proven as a job's are."""
    if given is None:
        return dict.fromkeys(kinds, Trip("not_asked", reason="its `.pt2` file was not read"))
    found: dict[ArtifactKind, Trip] = {}
    files = []
    exports = Exports(given, folder / ARTIFACT_FILES[ArtifactKind.ONNX].filename)
    for kind in ArtifactKind:
        if kind not in kinds:
            continue
        path = folder / ARTIFACT_FILES[kind].filename
        try:
            exports.write(kind, path, [images(subject, _CALIBRATION, seed=3)])
        except CompressionError as error:
            found[kind] = Trip("refused", reason=error.message)
        except Exception as error:  # noqa: BLE001  # as where they are read
            found[kind] = Trip("failed", reason=_in_short(error))
        else:
            files.append(WrittenFile(kind=kind, path=path))
    return found | _proven(given, tuple(files), folder)


def _proven(given: Network, files: tuple[WrittenFile, ...], folder: Path) -> dict[ArtifactKind, Trip]:
    """What a fresh process found of the files, with nothing but them; one by one where they are not proven at once."""
    if not files:
        return {}
    try:
        proofs = Prover(None, folder, 1, torch.device("cpu")).prove(given, files).proofs
    except CompressionError as error:
        if len(files) == 1:
            return {files[0].kind: Trip("refused", reason=error.message)}
        return {kind: trip for file in files for kind, trip in _proven(given, (file,), folder).items()}
    found = {}
    for proof in proofs:
        kind = ArtifactKind(proof.kind)
        largest = proof.tolerance / TOLERANCE[kind]  # of the outputs
        found[kind] = Trip("came_back", proof.largest_difference, proof.largest_difference / largest)
    return found


def _in_short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
