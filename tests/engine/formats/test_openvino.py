"""The OpenVINO artifact, run by OpenVINO against the module."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.engine.formats import onnx
from modelpress.engine.formats.openvino import convert, open_file
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from tests.support.networks import describe, network

pytest.importorskip("openvino", reason="needs the extra `openvino`")


@pytest.fixture(scope="module")
def original() -> Network:
    torch.manual_seed(1)
    return network(describe("resnet20_cifar"))


@pytest.fixture(scope="module")
def source(original: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("source") / "model.onnx"
    onnx.write(original, path)
    return path


def test_outputs_are_the_modules_at_any_batch(original: Network, source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "model.openvino.zip")
    run = open_file(tmp_path / "model.openvino.zip", 1)
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            expected = original.module(images).numpy()
        # Fp32, on processors with bfloat16 too: that would be off by hundredths.
        np.testing.assert_allclose(run(images.numpy()), expected, atol=1e-5 * np.abs(expected).max())


def test_it_holds_two_plain_files_with_the_weights_in_fp32(original: Network, source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "model.openvino.zip")
    with zipfile.ZipFile(tmp_path / "model.openvino.zip") as archive:
        assert archive.testzip() is None
        graph, weights = archive.infolist()
        assert (graph.filename, weights.filename) == ("model.xml", "model.bin")
        assert {graph.compress_type, weights.compress_type} == {zipfile.ZIP_STORED}
        numbers = np.frombuffer(archive.read(weights), dtype=np.float32)
    linear = original.module.get_parameter("linear.weight").detach().numpy().ravel()
    assert any(np.array_equal(numbers[start : start + linear.size], linear) for start in range(numbers.size))


def test_the_same_source_gives_the_same_bytes_that_name_no_machine(source: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        convert(source, tmp_path / name)
    content = (tmp_path / "one").read_bytes()
    assert (tmp_path / "other").read_bytes() == content
    for path in (source.parent, tmp_path, Path.home()):
        assert str(path).encode() not in content


def test_a_file_that_openvino_does_not_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(IncompatibleSpec, match=r"cannot be exported to OpenVINO.*leave out the artifact `openvino`"):
        convert(tmp_path / "model.onnx", tmp_path / "model.openvino.zip")
    assert not (tmp_path / "model.openvino.zip").exists()
