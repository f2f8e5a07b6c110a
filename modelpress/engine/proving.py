"""What the parent does for a proof: write files, keep what the fresh process needs, and have it look at them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.exhaustion import naming
from modelpress.engine.formats.registry import WRITERS
from modelpress.engine.loading import preprocessing_of
from modelpress.engine.network import Network
from modelpress.engine.verify import (
    Request,
    Verified,
    WrittenFile,
    hash_weights,
    probe_images,
    verify,
    write_heldout,
    write_probe,
)
from modelpress.spec.failure import CompressionError, Diverged, IncompatibleSpec, InvalidModel
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.report import Measurement

LOG = logging.getLogger(__name__)


class Prover:
    """Has fresh processes measure the original and prove the result, all on the same held-out images.

    `scratch` takes the files that are only a means; `threads` and `device` are those of the job.
    """

    def __init__(self, data: ImageData | None, scratch: Path, threads: int, device: torch.device) -> None:
        self._images = None if data is None else data.heldout_images
        self._heldout = None
        self._scratch, self._threads, self._device = scratch, threads, device
        self._original_onnx: Path | None = None
        self._original_outputs = scratch / "original_outputs.npy"
        self._original_measured = False
        if data is not None:
            self._heldout = scratch / "heldout.npz"
            write_heldout(data.heldout_images, data.heldout_labels, self._heldout)

    def measure_original(self, original: Network) -> tuple[Measurement, str | None]:
        """The original's figures, without its latency, which is measured beside the result's.

        Also why it will have no latency, where it cannot be exported. Raises InvalidModel when its outputs are not
        finite numbers.
        """
        file = WrittenFile(kind=ArtifactKind.SAFETENSORS, path=self._scratch / "original.safetensors")
        write(original, file.kind, file.path)
        try:
            request = self._request(original, (file,), file.path, file, ())
            # The export takes about as long as the other process needs, and uses a core that it leaves idle.
            with ThreadPoolExecutor(1) as pool:
                verified = pool.submit(verify, request, self._scratch)
                refusal = self._export_original(original)
                measurement = verified.result().measurement
                self._original_measured = True
                return measurement, refusal
        except Diverged as error:
            raise InvalidModel(f"the uploaded model does not work as it is: {error.message}") from error

    def prove(
        self, network: Network, files: tuple[WrittenFile, ...], warn: Callable[[str], None] = LOG.warning
    ) -> Verified:
        """Proofs of all files, the figures of the best of them, and latencies of original and result.

        `warn` is told when the result cannot be exported to be timed. Raises VerificationFailed.
        """
        by_kind = {file.kind: file for file in files}
        best = next(by_kind[kind] for kind in ArtifactKind if kind in by_kind)
        counted = best.path
        # An exporter folds and renames weights: they are counted in our own format.
        if best.kind is ArtifactKind.ONNX:
            counted = self._scratch / ARTIFACT_FILES[ArtifactKind.COMPACT].filename
            write(network, ArtifactKind.COMPACT, counted)
        timed: tuple[Path, ...] = ()
        if self._original_onnx is not None:
            onnx = by_kind[ArtifactKind.ONNX].path if ArtifactKind.ONNX in by_kind else self._scratch / "final.onnx"
            try:
                if ArtifactKind.ONNX not in by_kind:
                    write(network, ArtifactKind.ONNX, onnx)
                timed = (self._original_onnx, onnx)
            except IncompatibleSpec as error:
                warn(f"latency is not measured: {error.message}")
        return verify(self._request(network, files, counted, best, timed), self._scratch)

    def _export_original(self, original: Network) -> str | None:
        path = self._scratch / "original.onnx"
        try:
            write(original, ArtifactKind.ONNX, path)
        except IncompatibleSpec as error:
            return error.message
        self._original_onnx = path
        return None

    def _request(
        self,
        network: Network,
        files: tuple[WrittenFile, ...],
        counted: Path,
        evaluated: WrittenFile,
        timed: tuple[Path, ...],
    ) -> Request:
        preprocessing, shape = preprocessing_of(network), network.description.input_shape
        probe = self._scratch / "probe.npz"
        write_probe(network, probe_images(shape, self._images, preprocessing), probe)
        return Request(
            files=files,
            network=counted,
            accuracy=evaluated,
            weights=hash_weights(network.module),
            probe=probe,
            heldout=self._heldout,
            keep_outputs=None if self._original_measured else self._original_outputs,
            original_outputs=self._original_outputs if self._original_measured else None,
            preprocessing=preprocessing,
            input_shape=shape,
            latency=timed,
            threads=self._threads,
            device=self._device.type,
        )


def write(network: Network, kind: ArtifactKind, path: Path) -> None:
    """Write the network as one kind of file.

    Raises IncompatibleSpec when it cannot be exported to ONNX, OutOfDisk and OutOfMemory.
    """
    with naming(f"writing {path.name}"):
        try:
            WRITERS[kind](network, path)
        except Exception as error:
            if kind is not ArtifactKind.ONNX or isinstance(error, (CompressionError, OSError, MemoryError)):
                raise
            # The exporter's errors have no common class, and speak of its own insides.
            LOG.exception("the exporter failed")
            raise IncompatibleSpec(
                f"this network cannot be exported to ONNX ({type(error).__name__}; the log has the exporter's own "
                "words); leave the artifact `onnx` out"
            ) from error
