"""The `.pt2` artifact, run by plain torch against the module."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import modelpress
from modelpress.engine.formats import pt2
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import FactorizedLayer, NetworkDescription
from tests.support.networks import describe, network

FACTORIZED = describe(
    "vgg11_bn_cifar",
    FactorizedLayer(layer="features.4", scheme="vertical_horizontal", rank=5),
    FactorizedLayer(layer="classifier.1", scheme="svd", rank=4),
    width=0.2,
)
# Loads and runs a file with nothing but torch, and says what of ours it loaded on the way.
_ELSEWHERE = """
import sys, torch
graph = torch.export.load(sys.argv[1]).module()
images = torch.load(sys.argv[2], weights_only=True)
with torch.inference_mode():
    torch.save([graph(batch) for batch in images], sys.argv[3])
print(sorted(name for name in sys.modules if name.split(".")[0] in {"modelpress", "tests"}))
"""


@pytest.mark.parametrize(
    "description",
    [
        FACTORIZED,
        describe("nin_cifar"),
        describe("resnet20_cifar", in_channels=1),
        describe("resnet11_cifar"),
        describe("convnet8_cifar"),
    ],
    ids=["factorized", "nin", "resnet", "resnet11", "convnet8"],
)
def test_outputs_are_the_modules_at_any_batch(description: NetworkDescription, tmp_path: Path) -> None:
    original = network(description)
    pt2.write(original, tmp_path / "model.pt2")
    graph = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 5):
        images = torch.randn(batch, *description.input_shape, generator=torch.Generator().manual_seed(batch))
        with torch.inference_mode():
            assert torch.equal(graph(images), original.module(images))


def test_it_loads_where_there_is_nothing_but_torch(tmp_path: Path) -> None:
    original = network(FACTORIZED)
    pt2.write(original, tmp_path / "model.pt2")
    images = [torch.randn(batch, 3, 32, 32) for batch in (1, 3)]
    torch.save(images, tmp_path / "images.pt")
    paths = [str(tmp_path / name) for name in ("model.pt2", "images.pt", "outputs.pt")]
    # Isolated and in another folder, so that our sources are on no path. The arguments are ours.
    done = subprocess.run(
        [sys.executable, "-I", "-c", _ELSEWHERE, *paths], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
    for batch, found in zip(images, torch.load(tmp_path / "outputs.pt", weights_only=True), strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(found, original.module(batch), rtol=1e-5, atol=1e-5)


def test_it_tells_nothing_of_the_machine_that_wrote_it(tmp_path: Path) -> None:
    pt2.write(network(FACTORIZED), tmp_path / "model.pt2")
    content = (tmp_path / "model.pt2").read_bytes()
    checkout = Path(modelpress.__file__).parent.parent
    with zipfile.ZipFile(tmp_path / "model.pt2") as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}  # so the bytes are as seen
    for path in (checkout, Path.home(), Path(torch.__file__).parent, tmp_path):
        assert str(path).encode() not in content
    assert b".py" not in content


def test_the_same_network_gives_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("one.pt2", "another"):
        pt2.write(network(FACTORIZED), tmp_path / name)
    assert (tmp_path / "one.pt2").read_bytes() == (tmp_path / "another").read_bytes()


# torch says it of its own code.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
def test_it_can_be_given_back_its_modules_and_its_example_takes_no_room(tmp_path: Path) -> None:
    original = network(describe("resnet20_cifar", image_size=512))
    pt2.write(original, tmp_path / "model.pt2")
    program = torch.export.load(tmp_path / "model.pt2")
    assert program.example_inputs is not None
    ((example,), _) = program.example_inputs
    assert example.shape == (2, 3, 512, 512)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in original.module.state_dict().values())
    assert (tmp_path / "model.pt2").stat().st_size - weights < 250_000 < example.numel()
    found = {name for name, _ in torch.export.unflatten(program).named_modules()}
    assert {name for name, layer in original.module.named_modules() if isinstance(layer, nn.Conv2d)} <= found


class _Branching(nn.Module):
    """A network whose path depends on its input's values, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.layer(images.flatten(1)[:, :4])
        return scores if float(scores.sum()) > 0 else -scores


def test_a_network_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    broken = Network(_Branching().eval(), describe("snn_1k"))
    with pytest.raises(IncompatibleSpec, match="leave out the artifact `pt2`"):
        pt2.write(broken, tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
