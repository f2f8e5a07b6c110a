"""The ExecuTorch artifact, run by ExecuTorch against the module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import modelpress
from modelpress.engine.formats.executorch import open_file, write
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from tests.support.networks import describe, network

pytest.importorskip("executorch", reason="needs the extra `executorch`")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original() -> Network:
    torch.manual_seed(1)
    return network(describe("vgg11_bn_cifar", width=0.125))


@pytest.fixture(scope="module")
def program(original: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("program") / "model.pte"
    write(original, path)
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_the_modules_image_by_image(original: Network, program: Path, threads: int) -> None:
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = original.module(images)
    found = torch.from_numpy(open_file(program, threads)(images.numpy()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_convolutions_are_handed_to_xnnpack(program: Path) -> None:
    content = program.read_bytes()
    assert content[4:8] == b"ET12"  # of the program's schema
    assert b"XnnpackBackend" in content
    assert b"aten::convolution" not in content


def test_the_same_network_gives_the_same_bytes_that_name_no_machine(
    original: Network, program: Path, tmp_path: Path
) -> None:
    write(original, tmp_path / "again")
    content = program.read_bytes()
    assert (tmp_path / "again").read_bytes() == content
    for path in (Path(modelpress.__file__).parent.parent, Path.home(), program.parent):
        assert str(path).encode() not in content


def test_a_network_that_depends_on_values_is_refused(original: Network, tmp_path: Path) -> None:
    class Fickle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    fickle = Network(Fickle(), original.description)
    with pytest.raises(
        IncompatibleSpec, match=r"cannot be exported to ExecuTorch.*leave out the artifact `executorch`"
    ):
        write(fickle, tmp_path / "model.pte")
    assert not (tmp_path / "model.pte").exists()
