"""A fresh process reloads real files; a file that was altered is never proven."""

from __future__ import annotations

import math
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from modelpress.engine import reload
from modelpress.engine.architectures.registry import build
from modelpress.engine.formats.registry import QUANTIZERS, WRITERS
from modelpress.engine.latency import take_turns
from modelpress.engine.measure import count_macs, evaluate, normalise
from modelpress.engine.network import Network, weighted_layers
from modelpress.engine.proof_request import Request, TimedFiles, WrittenFile
from modelpress.engine.reload import check_files
from modelpress.engine.verify import hash_weights, probe_images, verify, write_heldout, write_probe
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import Diverged, VerificationFailed
from modelpress.spec.job import ARTIFACT_FILES, DEFAULT_ARTIFACTS, ArtifactKind
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.report import Latency
from tests.support.latency import LATENCY_SECONDS

pytestmark = pytest.mark.slow

PREPROCESSING = Preprocessing(mean=(0.5,), std=(0.25,))
SHAPE = (1, 32, 32)


def _network(seed: int = 0) -> Network:
    reference = ArchitectureRef(architecture="vgg11_bn_cifar", arguments={"in_channels": 1, "width": 0.125})
    torch.manual_seed(seed)
    module = build(reference).eval()
    with torch.no_grad():
        module.get_parameter("features.0.weight")[:4] = 0.0
        # Running statistics that a wrong epsilon or an unfolded normalisation would show.
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.1, 0.3)
    return Network(module, NetworkDescription(architecture=reference, input_shape=SHAPE, preprocessing=PREPROCESSING))


@pytest.fixture(scope="module")
def network() -> Network:
    return _network()


def _outputs(network: Network) -> torch.Tensor:
    with torch.no_grad():
        return network.module(probe_images(SHAPE, None, PREPROCESSING))


def test_the_network_under_test_is_alive(network: Network) -> None:
    assert float(_outputs(network).std(dim=0).min()) > 0.01


def _files(folder: Path) -> tuple[WrittenFile, ...]:
    return tuple(WrittenFile(kind=kind, path=folder / ARTIFACT_FILES[kind].filename) for kind in DEFAULT_ARTIFACTS)


@pytest.fixture(scope="module")
def written(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all artifacts of a network, with what the fresh process needs to check them."""
    folder = tmp_path_factory.mktemp("written")
    files = _files(folder)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, *SHAPE), dtype=torch.uint8, generator=generator)
    for file in files[:4]:
        WRITERS[file.kind](network, file.path)
    QUANTIZERS[files[4].kind](files[3].path, files[4].path, [normalise(images, PREPROCESSING)])
    labels = torch.randint(0, 10, (40,), generator=generator)
    write_heldout(images, labels, folder / "heldout.npz")
    write_probe(network, probe_images(SHAPE, images, PREPROCESSING), folder / "probe.npz")
    return folder


@pytest.fixture
def request_(network: Network, written: Path, tmp_path: Path) -> Request:
    """Files of a test's own, which it may damage."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    files = _files(tmp_path)
    return Request(
        files=files,
        network=files[0].path,
        weights=hash_weights(network.module),
        probe=tmp_path / "probe.npz",
        heldout=tmp_path / "heldout.npz",
        preprocessing=PREPROCESSING,
        input_shape=SHAPE,
        threads=1,
    )


def test_a_fresh_process_proves_all_files(network: Network, request_: Request, tmp_path: Path) -> None:
    verified = verify(request_, tmp_path)
    assert [proof.kind for proof in verified.proofs] == ["compact", "safetensors", "pt2", "onnx", "onnx_int8"]
    for proof, file in zip(verified.proofs, request_.files, strict=True):
        assert proof.largest_difference <= proof.tolerance
        assert proof.bytes == file.path.stat().st_size == verified.measurement.stored_bytes[proof.kind]
    compact, safetensors, pt2, onnx_file, int8 = verified.proofs
    # The same runtime and the same bits in memory.
    assert compact.largest_difference == safetensors.largest_difference
    parameters = sum(parameter.numel() for parameter in network.module.parameters())
    zeros = sum(int((parameter == 0).sum()) for parameter in network.module.parameters())
    measurement = verified.measurement
    assert zeros >= 4 * 9
    assert (measurement.measured_on, measurement.parameters) == ("file", parameters)
    assert measurement.nonzero_parameters == parameters - zeros
    assert measurement.macs == count_macs(network.module, SHAPE)
    with np.load(request_.heldout or "", allow_pickle=False) as heldout:
        images, labels = torch.from_numpy(heldout["images"]), torch.from_numpy(heldout["labels"])
    expected = evaluate(network.module, images, labels, PREPROCESSING)
    assert measurement.accuracy is not None
    assert measurement.accuracy.top1 == expected.top1
    assert measurement.accuracy.loss == pytest.approx(expected.loss, rel=1e-5)
    assert compact.accuracy == safetensors.accuracy == pt2.accuracy == measurement.accuracy
    # In ONNX Runtime the same but for rounding; in 8 bits nearly.
    assert onnx_file.accuracy is not None
    assert onnx_file.accuracy.top1 == expected.top1
    assert onnx_file.accuracy.loss == pytest.approx(expected.loss, rel=1e-4)
    assert int8.accuracy is not None
    assert int8.accuracy.loss == pytest.approx(expected.loss, rel=0.05)
    assert int8.accuracy.loss != onnx_file.accuracy.loss
    assert [layer.name for layer in measurement.layers] == list(weighted_layers(network.module))
    assert measurement.peak_memory_bytes
    assert measurement.latencies == verified.original_latencies == ()


def test_original_and_result_are_timed_in_each_runtime(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []

    def watched(*contenders: Any, batch: int, seconds: float, **more: Any) -> list[Latency]:
        asked.append((batch, seconds))
        return take_turns(*contenders, batch=batch, seconds=seconds, **more)

    monkeypatch.setattr(reload, "take_turns", watched)
    compact, safetensors, pt2, onnx_file, int8 = (file.path for file in request_.files)
    original = TimedFiles(network=safetensors, exported={})
    exported = {ArtifactKind.PT2: pt2, ArtifactKind.ONNX: onnx_file, ArtifactKind.ONNX_INT8: int8}
    result = TimedFiles(network=compact, exported=exported)
    update = {"timed": (original, result), "threads": 2, "heldout": None, "latency_seconds": 0.03}
    verified = check_files(request_.model_copy(update=update))
    assert asked == [(1, 0.03), (32, pytest.approx(0.02))]

    def kinds(latencies: tuple[Latency, ...]) -> list[tuple[str, str, int, int]]:
        return [(latency.runtime, latency.precision, latency.batch, latency.threads) for latency in latencies]

    assert kinds(verified.original_latencies) == [("pytorch", "fp32", 1, 1), ("pytorch", "fp32", 32, 2)]
    assert kinds(verified.measurement.latencies) == [
        (runtime, precision, batch, threads)
        for batch, threads in ((1, 1), (32, 2))
        for runtime, precision in (
            ("pytorch", "fp32"),
            ("torch_export", "fp32"),
            ("onnxruntime", "fp32"),
            ("onnxruntime", "int8"),
        )
    ]
    assert verified.proofs[0].accuracy is None


def test_an_8_bit_file_that_kernels_compute_otherwise_is_found(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for a processor whose kernels overflow, which this machine's do not."""
    run = reload._run_file

    def overflowing(file: WrittenFile, images: np.ndarray, threads: int) -> np.ndarray:
        outputs = run(file, images, threads)
        return outputs / 2 if file == request_.files[4] else outputs

    monkeypatch.setattr(reload, "_run_file", overflowing)
    with pytest.raises(VerificationFailed, match=r"model\.int8\.onnx does not give .* a difference of .* is allowed"):
        check_files(request_)
    # Where nobody named it, the other files stand.
    files = [file.path for file in request_.files]
    original = TimedFiles(network=files[1], exported={})
    result = TimedFiles(network=files[0], exported={ArtifactKind.ONNX: files[3], ArtifactKind.ONNX_INT8: files[4]})
    update = {"optional": (ArtifactKind.ONNX_INT8,), "timed": (original, result), "latency_seconds": LATENCY_SECONDS}
    verified = check_files(request_.model_copy(update=update))
    assert "a difference of" in verified.left_out[ArtifactKind.ONNX_INT8]
    assert [proof.kind for proof in verified.proofs] == list(DEFAULT_ARTIFACTS[:4])
    assert {(latency.runtime, latency.precision) for latency in verified.measurement.latencies} == {
        ("pytorch", "fp32"),
        ("onnxruntime", "fp32"),
    }


def test_one_altered_bit_of_a_weight_is_found(request_: Request, tmp_path: Path) -> None:
    path = request_.files[1].path
    content = bytearray(path.read_bytes())
    content[-4] ^= 1  # the last weight's least significant bit: the outputs stay within any tolerance
    path.write_bytes(content)
    with pytest.raises(VerificationFailed, match=r"model\.safetensors does not hold the weights"):
        verify(request_, tmp_path)


def test_an_altered_byte_of_the_compact_file_is_found(request_: Request) -> None:
    path = request_.files[0].path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(VerificationFailed, match=r"model\.mpz was written but does not load"):
        check_files(request_)


def test_a_truncated_pt2_file_is_found(request_: Request) -> None:
    path = request_.files[2].path
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(VerificationFailed, match=r"model\.pt2 was written but torch\.export does not load it"):
        check_files(request_)


def test_a_pt2_file_with_another_operator_is_found_by_its_outputs(request_: Request) -> None:
    """Its weights are the network's."""
    path = request_.files[2].path
    content = path.read_bytes()
    other = content.replace(b"torch.ops.aten.relu_.default", b"torch.ops.aten.silu_.default")
    assert other != content
    path.write_bytes(other)
    with pytest.raises(VerificationFailed, match=r"model\.pt2 does not give .* a difference of .* is allowed"):
        check_files(request_)


def test_a_graph_that_rounds_otherwise_is_measured_by_itself(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its accuracy is its own, where its outputs are not the modules' to the last bit."""
    load = reload._reload_graph

    def rounding(path: Path) -> torch.nn.Module:
        graph = load(path)
        graph.register_forward_hook(lambda *call: call[2] * (1 + 1e-6))
        return graph

    monkeypatch.setattr(reload, "_reload_graph", rounding)
    compact, _, pt2, _, _ = check_files(request_).proofs
    assert compact.accuracy is not None
    assert pt2.accuracy is not None
    assert pt2.accuracy.loss != compact.accuracy.loss
    assert pt2.accuracy.loss == pytest.approx(compact.accuracy.loss, rel=1e-4)


def test_a_truncated_onnx_file_is_found(request_: Request) -> None:
    path = request_.files[3].path
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(VerificationFailed, match=r"model\.onnx was written but does not run"):
        check_files(request_)


def test_an_onnx_file_with_another_weight_is_found_by_its_outputs(request_: Request) -> None:
    path = request_.files[3].path
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda tensor: math.prod(tensor.dims))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * np.float32(1.5), largest.name))
    onnx.save(model, path)
    with pytest.raises(VerificationFailed, match=r"model\.onnx does not give .* a difference of .* is allowed"):
        check_files(request_)


def test_files_of_another_network_are_found(request_: Request) -> None:
    for file in request_.files[:2]:
        WRITERS[file.kind](_network(seed=1), file.path)
    with pytest.raises(VerificationFailed, match="does not hold the weights"):
        check_files(request_)


def test_a_missing_file_ends_the_process_without_an_answer(request_: Request, tmp_path: Path) -> None:
    request_.probe.unlink()
    with pytest.raises(VerificationFailed, match="ended with code 1 and no answer"):
        verify(request_, tmp_path)


def test_outputs_that_are_not_numbers_give_no_probe(tmp_path: Path) -> None:
    broken = _network()
    with torch.no_grad():
        broken.module.get_parameter("features.0.weight")[0, 0, 0, 0] = math.inf
    with pytest.raises(Diverged, match="not finite numbers"):
        write_probe(broken, probe_images(SHAPE, None, PREPROCESSING), tmp_path / "probe.npz")


def test_the_hash_sees_each_bit_and_each_name() -> None:
    def layer() -> torch.nn.Linear:
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    first = hash_weights(layer())
    assert first == hash_weights(layer())
    altered = layer()
    with torch.no_grad():
        (bits,) = struct.unpack("<I", struct.pack("<f", float(altered.bias[0])))
        altered.bias[0] = struct.unpack("<f", struct.pack("<I", bits ^ 1))[0]
    assert hash_weights(altered) != first
    assert hash_weights(torch.nn.Sequential(layer())) != first


def test_probe_images_are_real_where_there_are_any() -> None:
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1).expand(100, *SHAPE)
    probe = probe_images(SHAPE, images, Preprocessing(mean=(0.0,), std=(1 / 255,)))
    assert probe.shape == (16, *SHAPE)
    values = probe[:, 0, 0, 0].round().int().tolist()
    assert values[0] == 0
    assert values[-1] == 99
    assert values == sorted(set(values))
    assert len(probe_images(SHAPE, images[:3], PREPROCESSING)) == 3


def test_noise_stands_in_for_images_and_is_the_same_each_time() -> None:
    probe = probe_images(SHAPE, None, PREPROCESSING)
    assert probe.shape == (16, *SHAPE)
    assert torch.equal(probe, probe_images(SHAPE, None, PREPROCESSING))
    assert 0.9 < float(probe.std()) < 1.1
    assert 1 <= len(probe_images((3, 512, 512), None, PREPROCESSING)) < 16
