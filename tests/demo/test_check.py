"""The demo's own look at a downloaded file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from demo.check import FigureMismatch, check_accuracy
from demo.prepared import Prepared
from modelpress.engine.architectures.registry import build
from modelpress.engine.formats.compact import write
from modelpress.engine.network import Network
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import NetworkDescription, Preprocessing
from modelpress.spec.report import Accuracy
from tests.client.reports import make_report

SNN = ArchitectureRef(architecture="snn_1k", arguments={"num_classes": 10, "in_channels": 1})
SEEN = Preprocessing(mean=(0.25,), std=(0.5,))


@pytest.fixture
def file_and_data(tmp_path: Path) -> tuple[Path, Prepared, int]:
    """A network's file, images that it sees, and how many of the labels it gets right: 40 of 50."""
    torch.manual_seed(0)
    network = build(SNN).eval()
    path = tmp_path / "model.mpz"
    write(Network(network, NetworkDescription(architecture=SNN, input_shape=(1, 32, 32), preprocessing=SEEN)), path)
    images = torch.randint(0, 256, (50, 1, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        labels = network((images.float() / 255 - 0.25) / 0.5).argmax(dim=1)
    labels[:10] = (labels[:10] + 1) % 10
    prepared = Prepared(
        title="",
        architecture=SNN,
        model=path,
        dataset=path,
        preprocessing=SEEN,
        heldout_images=images,
        heldout_labels=labels,
        train_examples=0,
    )
    return path, prepared, 40


def _stating(top1: float) -> object:
    report = make_report()
    final = report.final.model_copy(update={"accuracy": Accuracy(top1=top1, top5=1, loss=0, examples=50)})
    network = report.network.model_copy(update={"preprocessing": SEEN})
    return report.model_copy(update={"final": final, "network": network})


def test_the_right_figure_is_confirmed(file_and_data: tuple[Path, Prepared, int]) -> None:
    path, prepared, right = file_and_data
    assert check_accuracy(path, _stating(0.8), prepared) == right / 50  # type: ignore[arg-type]


@pytest.mark.parametrize("stated", [0.78, 0.82])
def test_a_figure_that_is_off_by_one_image_is_noticed(file_and_data: tuple[Path, Prepared, int], stated: float) -> None:
    path, prepared, _ = file_and_data
    with pytest.raises(FigureMismatch, match=f"gets 40 of 50 held-out images right; its report states {stated}"):
        check_accuracy(path, _stating(stated), prepared)  # type: ignore[arg-type]
