"""What the parent does for a proof: write files, keep what the fresh process needs, and have it look at them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.exhaustion import naming
from modelpress.engine.formats.registry import CONVERTERS, QUANTIZERS, WRITERS
from modelpress.engine.loading import preprocessing_of
from modelpress.engine.measure import normalise
from modelpress.engine.network import Network
from modelpress.engine.proof_request import Request, TimedFiles, Verified, WrittenFile
from modelpress.engine.verify import hash_weights, probe_images, verify, write_heldout, write_probe
from modelpress.spec.failure import Diverged, IncompatibleSpec, InvalidModel
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, Recipe
from modelpress.spec.report import Measurement
from modelpress.spec.task import LATENCY_SECONDS

LOG = logging.getLogger(__name__)

FINAL_ONNX = "final.onnx"
_BATCH_PIXELS = 2**18  # of calibration images: 256 of 32 x 32, 5 of 224 x 224


class Prover:
    """Writes files, and has fresh processes measure the original and prove the result on the same held-out images.

    `scratch` takes the files that are only a means; `threads`, `device` and `latency_seconds` are those of the job.
    """

    def __init__(
        self,
        data: ImageData | None,
        scratch: Path,
        threads: int,
        device: torch.device,
        *,
        latency_seconds: float = LATENCY_SECONDS,
    ) -> None:
        self._data, self._latency_seconds = data, latency_seconds
        self._heldout = None
        self._scratch, self._threads, self._device = scratch, threads, device
        self._original: TimedFiles | None = None  # once it was measured
        self._original_outputs = scratch / "original_outputs.npy"
        if data is not None:
            self._heldout = scratch / "heldout.npz"
            write_heldout(data.heldout_images, data.heldout_labels, self._heldout)

    def measure_original(
        self, original: Network, kinds: Collection[ArtifactKind]
    ) -> tuple[Measurement, dict[ArtifactKind, str]]:
        """The original's figures, without its latencies, which are measured beside the result's.

        It is exported to be timed in each runtime that the `kinds` of the job's files are for; also why not, where it
        cannot be. Raises InvalidModel when its outputs are not finite numbers.
        """
        file = WrittenFile(kind=ArtifactKind.SAFETENSORS, path=self._scratch / "original.safetensors")
        write(original, file.kind, file.path)
        try:
            request = self._request(original, (file,), file.path)
            # The export takes about as long as the other process needs, and uses a core that it leaves idle.
            with ThreadPoolExecutor(1) as pool:
                verified = pool.submit(verify, request, self._scratch)
                files, refusals = self._export_original(original, kinds, file.path)
                measurement = verified.result().measurement
        except Diverged as error:
            raise InvalidModel(f"the uploaded model does not work as it is: {error.message}") from error
        self._original = files
        return measurement, refusals

    @property
    def original_outputs(self) -> Tensor | None:
        """The original's outputs on the held-out images (N, K), once it was measured; None without any."""
        if self._heldout is None:
            return None
        return torch.from_numpy(np.load(self._original_outputs, allow_pickle=False))

    def take_original(self, original: Network, kinds: Collection[ArtifactKind], outputs: Tensor | None) -> None:
        """Prepare the original as `measure_original` does, where it was measured before and gave these outputs."""
        path = self._scratch / "original.safetensors"
        write(original, ArtifactKind.SAFETENSORS, path)
        self._original, _ = self._export_original(original, kinds, path)
        if outputs is not None:
            np.save(self._original_outputs, outputs.numpy())

    def _export_original(
        self, original: Network, kinds: Collection[ArtifactKind], written: Path
    ) -> tuple[TimedFiles, dict[ArtifactKind, str]]:
        runtimes = {ARTIFACT_FILES[kind].runtime for kind in kinds}
        exports = Exports(original, self._scratch / "original.onnx")
        exported = {
            kind: self._export(exports, kind, f"original.{kind}")
            for kind in ArtifactKind
            if ARTIFACT_FILES[kind].runtime in runtimes and _runs_the_network_elsewhere(kind)
        }
        files = {kind: path for kind, (path, _) in exported.items() if path is not None}
        refusals = {kind: refusal for kind, (_, refusal) in exported.items() if refusal is not None}
        return TimedFiles(network=written, exported=files), refusals

    def write_files(
        self, network: Network, recipe: Recipe, folder: Path, warn: Callable[[str], None] = LOG.warning
    ) -> tuple[WrittenFile, ...]:
        """Write the artifacts of a recipe into `folder`, in the order of ArtifactKind.

        The ranges of those that compute in fewer bits are taken from the recipe's number of training images, drawn by
        its seed. Where it names no kinds, one that cannot be made of this network, or without data, is left out, and
        `warn` told. Raises IncompatibleSpec when it names such a one, OutOfDisk and OutOfMemory.
        """
        kinds = recipe.wanted_artifacts
        onnx = folder / ARTIFACT_FILES[ArtifactKind.ONNX].filename
        exports = Exports(network, onnx if ArtifactKind.ONNX in kinds else self._scratch / FINAL_ONNX)
        files = []
        for kind in ArtifactKind:
            if kind not in kinds:
                continue
            path = folder / ARTIFACT_FILES[kind].filename
            try:
                batches = self._calibration_batches(network, recipe) if kind in QUANTIZERS else []
                exports.write(kind, path, batches)
            except IncompatibleSpec as error:
                if recipe.artifacts is not None:
                    raise
                warn(f"{path.name} is left out: {error.message}")
                path.unlink(missing_ok=True)
                continue
            files.append(WrittenFile(kind=kind, path=path))
        return tuple(files)

    def prove(
        self,
        network: Network,
        files: tuple[WrittenFile, ...],
        optional: Collection[ArtifactKind] = (),
        warn: Callable[[str], None] = LOG.warning,
    ) -> Verified:
        """Proofs of all files, the figures of the first of them, and latencies of original and result.

        An `optional` file that gives other outputs is removed, and `warn` told. Raises VerificationFailed for others.
        """
        counted = files[0].path
        # An exporter folds and renames weights: they are counted in our own format.
        if ARTIFACT_FILES[files[0].kind].runtime != "pytorch":
            counted = self._scratch / ARTIFACT_FILES[ArtifactKind.COMPACT].filename
            write(network, ArtifactKind.COMPACT, counted)
        timed = {file.kind: file.path for file in files if ARTIFACT_FILES[file.kind].runtime != "pytorch"}
        onnx = self._scratch / FINAL_ONNX  # there already where the 8-bit file alone was made of it
        if onnx.exists() and self._original is not None and ArtifactKind.ONNX in self._original.exported:
            timed[ArtifactKind.ONNX] = onnx
        result = TimedFiles(network=counted, exported={kind: timed[kind] for kind in ArtifactKind if kind in timed})
        request = self._request(network, files, counted, result)
        verified = verify(request.model_copy(update={"optional": tuple(optional)}), self._scratch)
        for file in files:
            if file.kind in verified.left_out:
                warn(f"{file.path.name} is left out: {verified.left_out[file.kind]}")
                file.path.unlink()
        return verified

    def _export(self, exports: Exports, kind: ArtifactKind, name: str) -> tuple[Path | None, str | None]:
        """The network's exported file in the scratch folder, or why there is none."""
        path = self._scratch / name
        try:
            exports.write(kind, path)
        except IncompatibleSpec as error:
            return None, error.message
        return path, None

    def _calibration_batches(self, network: Network, recipe: Recipe) -> list[torch.Tensor]:
        """At most the recipe's number of training images, as the network takes them, in batches of few pixels."""
        if self._data is None:
            raise IncompatibleSpec("an artifact that computes in 8 bits is calibrated on images; give `dataset`")
        images = self._data.train_images
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(recipe.seed))
        chosen = chosen[: recipe.calibration_images]
        size = max(1, _BATCH_PIXELS // (images.shape[2] * images.shape[3]))
        return [normalise(images[part], preprocessing_of(network)) for part in torch.split(chosen, size)]

    def _request(
        self, network: Network, files: tuple[WrittenFile, ...], counted: Path, result: TimedFiles | None = None
    ) -> Request:
        preprocessing, shape = preprocessing_of(network), network.description.input_shape
        probe = self._scratch / "probe.npz"
        images = None if self._data is None else self._data.heldout_images
        write_probe(network, probe_images(shape, images, preprocessing), probe)
        measured = self._original is not None
        return Request(
            files=files,
            network=counted,
            weights=hash_weights(network.module),
            probe=probe,
            heldout=self._heldout,
            keep_outputs=None if measured else self._original_outputs,
            original_outputs=self._original_outputs if measured and self._heldout is not None else None,
            preprocessing=preprocessing,
            input_shape=shape,
            timed=None if self._original is None or result is None else (self._original, result),
            latency_seconds=self._latency_seconds,
            threads=self._threads,
            device=self._device.type,
        )


class Exports:
    """Writes the files of one network; the ONNX file that some are made of is `onnx`, which is written once.

    The path must be free at first: what lies there is taken for it.
    """

    def __init__(self, network: Network, onnx: Path) -> None:
        self._network, self._onnx = network, onnx
        self._refusal: IncompatibleSpec | None = None

    def write(self, kind: ArtifactKind, path: Path, batches: Sequence[torch.Tensor] = ()) -> None:
        """As `write`; `batches` are what a kind of fewer bits is calibrated on."""
        if kind in WRITERS and path != self._onnx:
            write(self._network, kind, path)
            return
        source = self._source()
        with naming(f"writing {path.name}"):
            if kind in CONVERTERS:
                CONVERTERS[kind](source, path)
            elif kind in QUANTIZERS:
                QUANTIZERS[kind](source, path, list(batches))

    def _source(self) -> Path:
        """The ONNX file. Raises IncompatibleSpec, the same each time, when the network cannot be exported."""
        if self._refusal is not None:
            raise self._refusal
        if not self._onnx.exists():
            try:
                write(self._network, ArtifactKind.ONNX, self._onnx)
            except IncompatibleSpec as error:
                self._refusal = error
                raise
        return self._onnx


def _runs_the_network_elsewhere(kind: ArtifactKind) -> bool:
    """Whether files of this kind give the network's own outputs in a runtime where the original has to be timed too."""
    return ARTIFACT_FILES[kind].precision == "fp32" and ARTIFACT_FILES[kind].runtime != "pytorch"


def write(network: Network, kind: ArtifactKind, path: Path) -> None:
    """Write the network as one kind of file.

    Raises IncompatibleSpec when it cannot be exported so, OutOfDisk and OutOfMemory.
    """
    with naming(f"writing {path.name}"):
        WRITERS[kind](network, path)
