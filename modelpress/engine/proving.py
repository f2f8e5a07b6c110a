"""What the parent does for a proof: write files, keep what the fresh process needs, and have it look at them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.exhaustion import naming
from modelpress.engine.formats.registry import QUANTIZERS, WRITERS
from modelpress.engine.loading import preprocessing_of
from modelpress.engine.measure import normalise
from modelpress.engine.network import Network
from modelpress.engine.proof_request import Request, TimedFiles, Verified, WrittenFile
from modelpress.engine.verify import hash_weights, probe_images, verify, write_heldout, write_probe
from modelpress.spec.failure import Diverged, IncompatibleSpec, InvalidModel
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.report import Measurement

LOG = logging.getLogger(__name__)

FINAL_ONNX = "final.onnx"
_BATCH_PIXELS = 2**18  # of calibration images: 256 of 32 x 32, 5 of 224 x 224


class Prover:
    """Writes files, and has fresh processes measure the original and prove the result on the same held-out images.

    `scratch` takes the files that are only a means; `threads` and `device` are those of the job.
    """

    def __init__(self, data: ImageData | None, scratch: Path, threads: int, device: torch.device) -> None:
        self._data = data
        self._heldout = None
        self._scratch, self._threads, self._device = scratch, threads, device
        self._original: TimedFiles | None = None  # once it was measured
        self._original_outputs = scratch / "original_outputs.npy"
        if data is not None:
            self._heldout = scratch / "heldout.npz"
            write_heldout(data.heldout_images, data.heldout_labels, self._heldout)

    def measure_original(self, original: Network) -> tuple[Measurement, str | None]:
        """The original's figures, without its latencies, which are measured beside the result's.

        Also why ONNX Runtime will not time it, where it cannot be exported. Raises InvalidModel when its outputs are
        not finite numbers.
        """
        file = WrittenFile(kind=ArtifactKind.SAFETENSORS, path=self._scratch / "original.safetensors")
        write(original, file.kind, file.path)
        try:
            request = self._request(original, (file,), file.path)
            # The export takes about as long as the other process needs, and uses a core that it leaves idle.
            with ThreadPoolExecutor(1) as pool:
                verified = pool.submit(verify, request, self._scratch)
                onnx, refusal = self._export(original, "original.onnx")
                measurement = verified.result().measurement
        except Diverged as error:
            raise InvalidModel(f"the uploaded model does not work as it is: {error.message}") from error
        self._original = TimedFiles(network=file.path, onnx=onnx)
        return measurement, refusal

    def write_files(
        self, network: Network, kinds: Collection[ArtifactKind], folder: Path, *, calibration_images: int, seed: int
    ) -> tuple[WrittenFile, ...]:
        """Write these kinds of artifacts into `folder`, in the order of ArtifactKind.

        The ranges of those that compute in fewer bits are taken from that many training images, drawn by the seed.
        Raises IncompatibleSpec when one needs an export to ONNX that is not possible, OutOfDisk and OutOfMemory.
        """
        files = []
        for kind in ArtifactKind:
            if kind not in kinds:
                continue
            path = folder / ARTIFACT_FILES[kind].filename
            if kind in WRITERS:
                write(network, kind, path)
            else:
                onnx = folder / ARTIFACT_FILES[ArtifactKind.ONNX].filename
                if ArtifactKind.ONNX not in kinds:
                    onnx = self._scratch / FINAL_ONNX
                    write(network, ArtifactKind.ONNX, onnx)
                with naming(f"writing {path.name}"):
                    QUANTIZERS[kind](onnx, path, self._calibration_batches(network, calibration_images, seed))
            files.append(WrittenFile(kind=kind, path=path))
        return tuple(files)

    def prove(
        self, network: Network, files: tuple[WrittenFile, ...], warn: Callable[[str], None] = LOG.warning
    ) -> Verified:
        """Proofs of all files, the figures of the first of them, and latencies of original and result.

        `warn` is told when the result cannot be exported to be timed in ONNX Runtime. Raises VerificationFailed.
        """
        counted = files[0].path
        # An exporter folds and renames weights: they are counted in our own format.
        if ARTIFACT_FILES[files[0].kind].runtime != "pytorch":
            counted = self._scratch / ARTIFACT_FILES[ArtifactKind.COMPACT].filename
            write(network, ArtifactKind.COMPACT, counted)
        onnx = next((file.path for file in files if file.kind is ArtifactKind.ONNX), self._scratch / FINAL_ONNX)
        if not onnx.exists() and self._original is not None and self._original.onnx is not None:
            _, refusal = self._export(network, FINAL_ONNX)
            if refusal is not None:
                warn(f"latency in ONNX Runtime is not measured: {refusal}")
        result = TimedFiles(network=counted, onnx=onnx if onnx.exists() else None)
        return verify(self._request(network, files, counted, result), self._scratch)

    def _export(self, network: Network, name: str) -> tuple[Path | None, str | None]:
        """The network's ONNX file in the scratch folder, or why there is none."""
        path = self._scratch / name
        try:
            write(network, ArtifactKind.ONNX, path)
        except IncompatibleSpec as error:
            return None, error.message
        return path, None

    def _calibration_batches(self, network: Network, count: int, seed: int) -> list[torch.Tensor]:
        """At most that many training images, as the network takes them, in batches of few pixels."""
        if self._data is None:
            raise IncompatibleSpec("an artifact that computes in 8 bits is calibrated on images; give `dataset`")
        images = self._data.train_images
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
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
            threads=self._threads,
            device=self._device.type,
        )


def write(network: Network, kind: ArtifactKind, path: Path) -> None:
    """Write the network as one kind of file.

    Raises IncompatibleSpec when it cannot be exported to ONNX, OutOfDisk and OutOfMemory.
    """
    with naming(f"writing {path.name}"):
        WRITERS[kind](network, path)
