"""Proof that written files are what the report says: a fresh process reloads them with nothing but the file.

    parent                                          fresh process (python -m modelpress.engine.verify REQUEST.json)
    write_probe: images, and the outputs of   ->    load each file, run the images, compare with the outputs
    the network in memory                           hash the weights of each torch file, compare with the parent's
    write_heldout: images and labels          ->    accuracy of the best file; parameters, MACs, peak memory
    verify: starts the process, waits         <-    RESULT.json: proofs, measurement, latencies; or a failure

Tolerances. The compact container and safetensors keep fp32 exactly, so every weight has to come back bit for bit (the
hash). Their outputs may still differ in the last bits, since the number of threads and the layout of memory decide the
order of sums: an fp32 sum of n products is off by about sqrt(n) * 6e-8 of its scale, so 1e-4 of the largest output is a
hundred times what is seen. ONNX Runtime also folds batch normalisation into convolutions and uses other kernels:
differences up to 1e-5 of the scale were seen, 1e-3 is allowed. A missing layer, a transposed weight or a wrong epsilon
is off by far more than either.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from modelpress.engine.formats.load import load_network
from modelpress.engine.latency import measure_latency, open_session, run_session
from modelpress.engine.logs import log_to_stdout
from modelpress.engine.measure import (
    accuracy_of,
    agreement_of,
    batches,
    count_macs,
    count_nonzero,
    count_parameters,
    evaluating,
    exact_arithmetic,
    normalise,
    outputs_of,
    peak_memory,
    reset_peak_memory,
)
from modelpress.engine.network import Network
from modelpress.engine.results import write_result
from modelpress.spec.config import Config
from modelpress.spec.failure import CompressionError, Diverged, Failure, OutOfMemory, VerificationFailed
from modelpress.spec.job import ArtifactKind
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import ArtifactProof, Latency, Measurement

LOG = logging.getLogger(__name__)

# Of the largest absolute output. Outputs near zero can be differences of larger numbers, hence the floor.
_SMALLEST_SCALE = 0.1
TOLERANCE = {ArtifactKind.COMPACT: 1e-4, ArtifactKind.SAFETENSORS: 1e-4, ArtifactKind.ONNX: 1e-3}
PROBE_IMAGES = 16
_PROBE_PIXELS = 2**18  # 16 images up to 128 x 128, 5 of 224 x 224: enough outputs, little memory


class WrittenFile(Config):
    """A file to reload."""

    kind: ArtifactKind
    path: Path


class Request(Config):
    """What the fresh process is asked."""

    files: tuple[WrittenFile, ...] = Field(min_length=1)
    network: Path = Field(description="Compact or safetensors: the file that is counted and, if it can be, evaluated.")
    accuracy: WrittenFile = Field(description="The file whose accuracy is measured.")
    weights: str = Field(description="`hash_weights` of the network in memory.")
    probe: Path
    heldout: Path | None = None
    keep_outputs: Path | None = Field(default=None, description="Where outputs on the held-out images go, as .npy.")
    original_outputs: Path | None = Field(default=None, description="Those of the original, to agree with.")
    preprocessing: Preprocessing
    input_shape: tuple[int, int, int]
    latency: tuple[Path, ...] = Field(default=(), description="ONNX files to time in turns.")
    threads: int = Field(ge=1, description="CPU threads for all but the latency, which is taken with one.")
    device: str = Field(default="cpu", description="Where accuracy is measured.")


class Verified(Config):
    """What it answers."""

    proofs: tuple[ArtifactProof, ...]
    measurement: Measurement
    latencies: tuple[Latency, ...]


class _Answer(Config):
    verified: Verified | None = None
    failure: Failure | None = None


def hash_weights(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bits of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def probe_images(input_shape: tuple[int, int, int], images: Tensor | None, preprocessing: Preprocessing) -> Tensor:
    """Images to compare outputs on, fp32 (n, C, H, W): taken evenly from `images` (uint8), or seeded noise."""
    channels, height, width = input_shape
    count = max(1, min(PROBE_IMAGES, _PROBE_PIXELS // (height * width)))
    if images is None or len(images) == 0:
        return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    return normalise(images[chosen].cpu(), preprocessing)


def write_probe(network: Network, images: Tensor, path: Path) -> None:
    """Keep `images` (fp32, on the CPU) and the outputs of the network (on the CPU) for them, as .npz.

    Raises Diverged when the outputs are not finite numbers.
    """
    images = images.contiguous()  # as it comes back from the file
    with evaluating(network.module), exact_arithmetic(), torch.inference_mode():
        outputs = network.module(images)
    if not bool(torch.isfinite(outputs).all()):
        raise Diverged(
            "the network's outputs are not finite numbers; check the weights for infinities, and lower the learning "
            "rate if a training came before"
        )
    np.savez(path, images=images.numpy(), outputs=outputs.numpy())


def write_heldout(images: Tensor, labels: Tensor, path: Path) -> None:
    """Keep the decoded held-out images (uint8) and labels, so that no fresh process decodes the data set again."""
    np.savez(path, images=images.cpu().numpy(), labels=labels.cpu().numpy())


def verify(request: Request, scratch: Path) -> Verified:
    """Have a fresh process carry out `request`; its files are kept in `scratch`.

    Raises VerificationFailed when a file does not load, does not hold the weights or does not give the outputs,
    Diverged when its outputs are not numbers, OutOfMemory when the process was killed for memory.
    """
    asked, answered = scratch / "request.json", scratch / "answer.json"
    asked.write_text(request.model_dump_json())
    answered.unlink(missing_ok=True)
    sys.stdout.flush()
    command = [sys.executable, "-m", "modelpress.engine.verify", str(asked), str(answered)]
    # The arguments are ours: this interpreter, this module, two paths in the scratch folder.
    code = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode  # noqa: S603
    if not answered.exists():
        if code == -9:
            raise OutOfMemory(
                "the fresh process that reloads the files was killed, most likely because memory ran out; "
                "free memory on this machine, or give the worker more"
            )
        raise VerificationFailed(
            f"the fresh process that reloads the files ended with code {code} and no answer; the log says why"
        )
    answer = _Answer.model_validate_json(answered.read_text())
    if answer.failure is not None:
        errors: dict[str, type[CompressionError]] = {e.kind: e for e in (VerificationFailed, Diverged, OutOfMemory)}
        raise errors.get(answer.failure.kind, VerificationFailed)(answer.failure.message)
    if answer.verified is None:
        raise VerificationFailed("the fresh process that reloads the files gave an empty answer; the log says why")
    return answer.verified


def check_files(request: Request) -> Verified:
    """What the fresh process does: reload, compare, measure. Raises as `verify` does."""
    torch.set_num_threads(request.threads)
    with np.load(request.probe, allow_pickle=False) as probe:
        images, expected = probe["images"], probe["outputs"]
    networks: dict[Path, nn.Module] = {}
    for path in {request.network, *(file.path for file in request.files if file.kind is not ArtifactKind.ONNX)}:
        networks[path] = _reload(path)
        if hash_weights(networks[path]) != request.weights:
            raise VerificationFailed(
                f"{path.name} does not hold the weights of the network it was written from; the disk or the memory "
                "of this machine may be faulty: try again, on another machine if it comes back"
            )
    proofs = tuple(_prove(file, networks.get(file.path), images, expected, request.threads) for file in request.files)
    measurement = _measure(request, networks)
    latencies = measure_latency(request.latency, request.input_shape) if request.latency else []
    return Verified(proofs=proofs, measurement=measurement, latencies=tuple(latencies))


def _reload(path: Path) -> nn.Module:
    try:
        return load_network(path).module.eval()
    except CompressionError as error:
        raise VerificationFailed(f"{path.name} was written but does not load: {error.message}") from error


def _prove(
    file: WrittenFile, module: nn.Module | None, images: np.ndarray, expected: np.ndarray, threads: int
) -> ArtifactProof:
    if module is not None:
        with exact_arithmetic(), torch.inference_mode():
            outputs = module(torch.from_numpy(images)).numpy()
    else:
        outputs = _run_onnx(file.path, images, threads)
    if outputs.shape != expected.shape:
        raise VerificationFailed(f"{file.path.name} gives outputs of shape {outputs.shape}, not {expected.shape}")
    differences = np.abs(outputs.astype(np.float64) - expected)
    largest = float(differences.max())
    tolerance = TOLERANCE[file.kind] * max(_SMALLEST_SCALE, float(np.abs(expected).max()))
    if not largest <= tolerance:  # written so that NaN fails too
        image, output = np.unravel_index(int(np.nanargmax(np.nan_to_num(differences, nan=np.inf))), outputs.shape)[:2]
        raise VerificationFailed(
            f"{file.path.name} does not give the network's outputs: output {output} of probe image {image} is "
            f"{outputs[image, output]:.6g} and should be {expected[image, output]:.6g}, a difference of {largest:.3g} "
            f"where {tolerance:.3g} is allowed; leave the artifact {file.kind.value!r} out, and report this network"
        )
    content = hashlib.sha256()
    with file.path.open("rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            content.update(block)
    LOG.info("%s: largest difference %.3g, tolerance %.3g", file.path.name, largest, tolerance)
    return ArtifactProof(
        kind=file.kind.value,
        file=file.path.name,
        bytes=file.path.stat().st_size,
        sha256=content.hexdigest(),
        largest_difference=largest,
        tolerance=tolerance,
    )


def _run_onnx(path: Path, images: np.ndarray, threads: int) -> np.ndarray:
    try:
        return run_session(open_session(path, threads), images)
    # ONNX Runtime's errors have no common class but Exception.
    except Exception as error:
        raise VerificationFailed(f"{path.name} was written but does not run in ONNX Runtime: {error}") from error


def _measure(request: Request, networks: dict[Path, nn.Module]) -> Measurement:
    module = networks[request.network]
    parameters, nonzero = count_parameters(module), count_nonzero(module)
    device = request.device if request.heldout is not None else "cpu"
    reset_peak_memory(device)
    macs = count_macs(module, request.input_shape)
    accuracy = agreement = None
    if request.heldout is not None:
        outputs, labels = _heldout_outputs(request, networks, request.heldout)
        accuracy = accuracy_of(outputs, labels)
        if request.keep_outputs is not None:
            np.save(request.keep_outputs, outputs.numpy())
        if request.original_outputs is not None:
            original = torch.from_numpy(np.load(request.original_outputs, allow_pickle=False))
            agreement = agreement_of(original, outputs)
    return Measurement(
        measured_on="file",
        parameters=parameters,
        nonzero_parameters=nonzero,
        macs=macs,
        stored_bytes={file.kind.value: file.path.stat().st_size for file in request.files},
        accuracy=accuracy,
        agreement=agreement,
        peak_memory_bytes=peak_memory(device),
    )


def _heldout_outputs(request: Request, networks: dict[Path, nn.Module], heldout_path: Path) -> tuple[Tensor, Tensor]:
    """Outputs (N, classes) and labels (N,) of the held-out images."""
    with np.load(heldout_path, allow_pickle=False) as heldout:
        images, labels = torch.from_numpy(heldout["images"]), torch.from_numpy(heldout["labels"])
    module = networks.get(request.accuracy.path)
    if module is not None:
        device = torch.device(request.device)
        return outputs_of(module.to(device), images, request.preprocessing, device), labels
    session = open_session(request.accuracy.path, request.threads)
    outputs = [
        torch.from_numpy(run_session(session, normalise(batch, request.preprocessing).numpy()))
        for batch in batches(images)
    ]
    return torch.cat(outputs), labels


def main(arguments: list[str]) -> int:
    """Read a request, write an answer. Exit code 0 when all files proved right."""
    log_to_stdout()
    asked, answered = map(Path, arguments)
    try:
        answer = _Answer(verified=check_files(Request.model_validate_json(asked.read_text())))
    except CompressionError as error:
        answer = _Answer(failure=error.failure)
    except (MemoryError, torch.OutOfMemoryError):
        failure = Failure(kind=OutOfMemory.kind, message="memory ran out while the written files were reloaded")
        answer = _Answer(failure=failure)
    write_result(answer, answered)
    return 0 if answer.failure is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
