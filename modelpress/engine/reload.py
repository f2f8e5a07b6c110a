"""The fresh process of a proof: reload each file with nothing but the file, compare, measure.

Tolerances. The compact container and safetensors keep fp32 exactly, so every weight has to come back bit for bit (the
hash). Their outputs may still differ in the last bits, since the number of threads and the layout of memory decide the
order of sums: an fp32 sum of n products is off by about sqrt(n) * 6e-8 of its scale, so 1e-4 of the largest output is a
hundred times what is seen. ONNX Runtime also folds batch normalisation into convolutions and uses other kernels:
differences up to 1e-5 of the scale were seen, 1e-3 is allowed. A missing layer, a transposed weight or a wrong epsilon
is off by far more than either.

OpenVINO and ExecuTorch's XNNPACK do as ONNX Runtime does, and are held to the same. On processors with bfloat16,
OpenVINO would compute in it by default: it is asked for fp32 here, and in the model card.

The graph of a `.pt2` file holds the same weights (the hash) and calls the same kernels as the modules, most often to
the last bit on the probe images. Where it does, its outputs on the held-out images are not computed a second time. It
is read by `torch.export.load`, as its users will; that runs code which a stranger's file may hold, so it is only ever
given what this job has written.

Rounding to 8 bits changes outputs by design; by how much it costs is told by the file's accuracy and agreement. What
has to hold is that the integer kernels compute what the file says, which is the same graph computed in fp32 with all
optimisations off. A value on the edge of two steps may fall to either side: up to 4% of the scale was seen in deep
networks (EfficientNet-B0), a fifth is allowed; sums that overflow are off by more.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modelpress.engine.formats.load import load_network
from modelpress.engine.fresh import serve
from modelpress.engine.latency import (
    file_contender,
    graph_contender,
    large_batch,
    take_turns,
    torch_contender,
)
from modelpress.engine.layer_figures import layer_figures
from modelpress.engine.logs import log_to_stdout
from modelpress.engine.measure import (
    accuracy_of,
    agreement_of,
    batches,
    count_nonzero,
    count_parameters,
    exact_arithmetic,
    normalise,
    outputs_of,
    peak_memory,
    reset_peak_memory,
)
from modelpress.engine.network import Network
from modelpress.engine.proof_request import Answer, Request, Verified, WrittenFile
from modelpress.engine.results import write_result
from modelpress.engine.runtimes import OPENERS, open_session, run_session
from modelpress.engine.scores import scores_of
from modelpress.engine.verify import hash_weights
from modelpress.spec.failure import CompressionError, Failure, OutOfMemory, VerificationFailed
from modelpress.spec.job import ARTIFACT_FILES, RUNTIME_NAMES, ArtifactKind, Runtime
from modelpress.spec.report import ArtifactProof, Latency, Measurement

LOG = logging.getLogger(__name__)

# Of the largest absolute output. Outputs near zero can be differences of larger numbers, hence the floor.
_SMALLEST_SCALE = 0.1
TOLERANCE = {
    ArtifactKind.COMPACT: 1e-4,
    ArtifactKind.SAFETENSORS: 1e-4,
    ArtifactKind.PT2: 1e-4,
    ArtifactKind.ONNX: 1e-3,
    ArtifactKind.ONNX_INT8: 0.2,
    ArtifactKind.OPENVINO: 1e-3,
    ArtifactKind.EXECUTORCH: 1e-3,
}
_BATCH_SHARE = 2 / 3  # of a latency's seconds: a large batch takes long, and its time hardly varies


def check_files(request: Request) -> Verified:
    """Reload, compare, measure. Raises VerificationFailed, and Diverged when outputs are not numbers."""
    torch.set_num_threads(request.threads)
    network = _reload(request.network)
    modules = {request.network: network.module}
    for file in request.files:
        if _runtime(file) == "torch_export":
            modules[file.path] = _reload_graph(file.path)
        elif _runtime(file) == "pytorch" and file.path != request.network:
            modules[file.path] = _reload(file.path).module
    for path, module in modules.items():
        if hash_weights(module) != request.weights:
            raise VerificationFailed(
                f"{path.name} does not hold the weights of the network it was written from; the disk or the memory "
                "of this machine may be faulty: try again, on another machine if it comes back"
            )
    files, proofs, left_out = [], [], {}
    for file in request.files:
        try:
            proofs.append(_prove(file, modules, request))
            files.append(file)
        except VerificationFailed as error:
            if file.kind not in request.optional:
                raise
            left_out[file.kind] = error.message
    device = request.device if request.heldout is not None else "cpu"
    reset_peak_memory(device)
    judge = _Judge(request, modules)
    proofs[0] = judge.measured(proofs[0], files[0])
    peak = peak_memory(device)  # of the first file alone, as it is for the original
    proofs[1:] = [judge.measured(*pair) for pair in zip(proofs[1:], files[1:], strict=True)]
    macs, layers = layer_figures(network.module, network.description)
    original, result = _latencies(request, modules, left_out)
    return Verified(
        proofs=tuple(proofs),
        left_out=left_out,
        measurement=Measurement(
            measured_on="file",
            parameters=count_parameters(network.module),
            nonzero_parameters=count_nonzero(network.module),
            macs=macs,
            stored_bytes={proof.kind: proof.bytes for proof in proofs},
            accuracy=proofs[0].accuracy,
            agreement=proofs[0].agreement,
            latencies=result,
            layers=layers,
            peak_memory_bytes=peak,
        ),
        original_latencies=original,
    )


def _runtime(file: WrittenFile) -> Runtime:
    return ARTIFACT_FILES[file.kind].runtime


def _reload(path: Path) -> Network:
    try:
        return load_network(path)
    except CompressionError as error:
        raise VerificationFailed(f"{path.name} was written but does not load: {error.message}") from error


def _reload_graph(path: Path) -> nn.Module:
    try:
        return torch.export.load(path).module()
    # The errors of torch's reader have no common class but Exception.
    except Exception as error:
        raise VerificationFailed(f"{path.name} was written but torch.export does not load it: {error}") from error


def _prove(file: WrittenFile, modules: Mapping[Path, nn.Module], request: Request) -> ArtifactProof:
    """A proof without accuracy: the file's outputs on the probe images are what they should be."""
    with np.load(request.probe, allow_pickle=False) as probe:
        images, expected = probe["images"], probe["outputs"]
    if file.path in modules:
        outputs = _run_module(modules[file.path], images)
    else:
        outputs = _run_file(file, images, request.threads)
        if ARTIFACT_FILES[file.kind].precision == "int8":
            expected = run_session(open_session(file.path, request.threads, optimised=False), images)
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


def _run_module(module: nn.Module, images: np.ndarray) -> np.ndarray:
    with exact_arithmetic(), torch.inference_mode():
        outputs: np.ndarray = module(torch.from_numpy(images)).numpy()
    return outputs


def _run_file(file: WrittenFile, images: np.ndarray, threads: int) -> np.ndarray:
    try:
        return OPENERS[_runtime(file)](file.path, threads)(images)
    # The runtimes' errors have no common class but Exception.
    except Exception as error:
        raise VerificationFailed(
            f"{file.path.name} was written but does not run in {RUNTIME_NAMES[_runtime(file)]}: {error}"
        ) from error


class _Judge:
    """Measures files on the held-out images, each in its runtime."""

    def __init__(self, request: Request, modules: Mapping[Path, nn.Module]) -> None:
        self._request, self._modules = request, modules
        self._by_torch: Tensor | None = None
        self._images = self._labels = torch.empty(0)
        if request.heldout is not None:
            with np.load(request.heldout, allow_pickle=False) as heldout:
                self._images, self._labels = torch.from_numpy(heldout["images"]), torch.from_numpy(heldout["labels"])

    def measured(self, proof: ArtifactProof, file: WrittenFile) -> ArtifactProof:
        """The proof with the file's accuracy, and its agreement with the original where that is known."""
        request = self._request
        if request.heldout is None:
            return proof
        outputs = self._outputs(file)
        agreement = None
        if request.keep_outputs is not None:
            np.save(request.keep_outputs, outputs.numpy())
        if request.original_outputs is not None:
            original = torch.from_numpy(np.load(request.original_outputs, allow_pickle=False))
            agreement = agreement_of(original, outputs)
        return proof.model_copy(update={"accuracy": accuracy_of(outputs, self._labels), "agreement": agreement})

    def _outputs(self, file: WrittenFile) -> Tensor:
        """Class scores (N, classes) for the held-out images."""
        match _runtime(file):
            case runtime if runtime in OPENERS:
                return self._outputs_by(OPENERS[runtime](file.path, self._request.threads))
            case "torch_export" if not self._is_same(self._modules[file.path]):
                return self._outputs_by(lambda images: _run_module(self._modules[file.path], images))
        return self._torch_outputs()

    def _torch_outputs(self) -> Tensor:
        """Of all files that are the same modules: their weights are the same to the last bit."""
        if self._by_torch is None:
            device = torch.device(self._request.device)
            module = self._modules[self._request.network].to(device)
            self._by_torch = outputs_of(module, self._images, self._request.preprocessing, device)
            module.to("cpu")
        return self._by_torch

    def _is_same(self, graph: nn.Module) -> bool:
        """Whether a graph with the same weights gives the modules' outputs on the probe images to the last bit."""
        with np.load(self._request.probe, allow_pickle=False) as probe:
            images = probe["images"]
        outputs = _run_module(self._modules[self._request.network], images)
        return np.array_equal(_run_module(graph, images), outputs)

    def _outputs_by(self, run: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        outputs = [
            torch.from_numpy(run(normalise(batch, self._request.preprocessing).numpy()))
            for batch in batches(self._images)
        ]
        return scores_of(self._modules[self._request.network], torch.cat(outputs))


def _latencies(
    request: Request, modules: Mapping[Path, nn.Module], left_out: Collection[ArtifactKind]
) -> tuple[tuple[Latency, ...], tuple[Latency, ...]]:
    """Of the original and of the result, in each runtime: one image with one thread, a large batch with all."""
    if request.timed is None:
        return (), ()
    original, result = request.timed
    graphs = {
        path: modules.get(path) or _reload_graph(path)
        for paths in request.timed
        for kind, path in paths.exported.items()
        if ARTIFACT_FILES[kind].runtime == "torch_export"
    }
    original_module = _reload(original.network).module
    found: tuple[list[Latency], list[Latency]] = ([], [])
    for batch, threads, seconds in (
        (1, 1, request.latency_seconds),
        (large_batch(request.input_shape), request.threads, _BATCH_SHARE * request.latency_seconds),
    ):
        of_original = [torch_contender(original_module)]
        of_result = [torch_contender(modules[request.network])]
        for paths, contenders in ((original, of_original), (result, of_result)):
            for kind, path in paths.exported.items():
                if kind in left_out:
                    continue
                if path in graphs:
                    contenders.append(graph_contender(graphs[path]))
                elif batch == 1 or not ARTIFACT_FILES[kind].fixed_batch:
                    contenders.append(file_contender(path, kind, threads))
        measured = take_turns(
            [*of_original, *of_result], request.input_shape, threads=threads, batch=batch, seconds=seconds
        )
        found[0].extend(measured[: len(of_original)])
        found[1].extend(measured[len(of_original) :])
    return tuple(found[0]), tuple(found[1])


def main(arguments: list[str]) -> int:
    """Read a request, write an answer. Exit code 0 when all files proved right."""
    log_to_stdout()
    asked, answered = map(Path, arguments)
    try:
        answer = Answer(verified=check_files(Request.model_validate_json(asked.read_text())))
    except CompressionError as error:
        answer = Answer(failure=error.failure)
    except (MemoryError, torch.OutOfMemoryError):
        failure = Failure(kind=OutOfMemory.kind, message="memory ran out while the written files were reloaded")
        answer = Answer(failure=failure)
    write_result(answer, answered)
    return 0 if answer.failure is None else 1


if __name__ == "__main__":
    serve(main, answers=int(sys.argv[1]))
