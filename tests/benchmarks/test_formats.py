"""Networks through every format: what the command finds of small ones, and the page that it writes."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import compatibility, formats
from benchmarks.format_networks import SUBJECTS, images, network
from benchmarks.formats import PAGE, READ, WRITTEN, main, page
from benchmarks.result import RESULTS
from benchmarks.round_trips import Trip, compared


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> dict[str, Any]:
    """What the command leaves in a folder."""
    output = folder / "formats.json"
    places = ["--output", str(output), "--page", str(folder / "formats.md")]
    monkeypatch.setattr(sys, "argv", ["formats", *places, *arguments])
    assert main() == 0
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_two_small_networks_come_through(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["--read", "state_dict", "pt2", "--written", "compact", "safetensors"]
    result = run(monkeypatch, tmp_path, "--only", "squeezenet1_1", "row_lstm", *columns)

    squeezenet, lstm = result["networks"]["squeezenet1_1"], result["networks"]["row_lstm"]
    # torchvision's 1,235,496 parameters for 1,000 classes, less those of 990 outputs of 512 weights and a bias each.
    assert squeezenet["parameters"] == 1_235_496 - 990 * 513
    same = {"status": "came_back", "difference": 0, "relative": 0, "reason": None}
    assert squeezenet["read"] == {"state_dict": same, "pt2": same}
    assert squeezenet["written"] == {"compact": same, "safetensors": same}
    assert lstm["read"]["state_dict"]["status"] == "not_asked"
    assert lstm["read"]["pt2"] == same
    assert lstm["written"] == {"compact": same, "safetensors": same}

    told = capsys.readouterr().out
    assert "squeezenet1_1" in told
    assert "row_lstm" in told
    written = (tmp_path / "formats.md").read_text()
    assert written == page(result)
    assert written.index("`squeezenet1_1`") < written.index("`row_lstm`")


def test_a_network_that_came_back_another_is_told_by_how_much() -> None:
    network = nn.Linear(2, 3)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.copy_(torch.tensor([1.0, -4.0, 2.0]))
    other = copy.deepcopy(network)
    batch = torch.ones(5, 2)
    assert compared(network, other, batch) == Trip("came_back", 0, 0)
    with torch.no_grad():
        other.bias[0] += 0.5
    assert compared(network, other, batch) == Trip("came_back", 0.5, 0.125)
    assert compared(network, nn.Linear(2, 4), batch).status == "failed"
    with torch.no_grad():
        other.bias[0] = torch.nan
    assert compared(network, other, batch).status == "failed"


def test_what_is_not_asked_for_stays_and_what_ends_in_an_error_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trip = {"status": "came_back", "difference": 2.5e-7, "relative": 1.25e-7, "reason": None}
    known = {
        "shape": [3, 64, 64],
        "parameters": 11_181_642,
        "spread": 0.25,
        "read": dict.fromkeys(READ, trip),
        "written": dict.fromkeys(WRITTEN, trip | {"status": "refused", "reason": "it is too large"}),
        "upload": None,
    }
    (tmp_path / "formats.json").write_text(json.dumps({"networks": {"resnet18": known}}))
    failed = {"failure": "its process ended with code -11: no word", "seconds": 1.0}
    monkeypatch.setattr(formats, "_in_a_process", lambda *_: failed)

    result = run(monkeypatch, tmp_path, "--only", "resnet18", "swin_t", "--missing")

    assert result["networks"] == {"resnet18": known, "swin_t": failed}
    lines = (tmp_path / "formats.md").read_text().splitlines()
    assert any(
        line.startswith("| ResNet-18 (`resnet18`) | 64 | 11.18 M | 1.2e-07 |") and line.count("refused[^1] |") == 5
        for line in lines
    )
    assert "[^1]: it is too large" in lines
    assert "at least 25%" in "\n".join(lines)
    assert any(line.startswith("| Swin-T (`swin_t`) | 64 | | **failed**[^2] |") for line in lines)
    assert "[^2]: its process ended with code -11: no word" in lines


def test_weights_are_the_same_each_time_and_none_is_without_effect() -> None:
    (subject,) = (subject for subject in SUBJECTS if subject.name == "mobilenet_v3_small")
    one, other = network(subject), network(subject)
    assert all(torch.equal(*pair) for pair in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert not one.training
    # As they are drawn, the shifts of batch norms are 0 and their scales 1, and their statistics those of no data.
    for name, tensor in one.state_dict().items():
        if tensor.numel() > 1:
            assert bool((tensor != tensor.flatten()[0]).any()), name
    with torch.inference_mode():
        outputs = one(images(subject, 2, seed=0))
    assert outputs.shape == (2, 10)
    assert bool(outputs.isfinite().all())
    # An output that is the same for every image would hide what becomes of all that comes before it.
    assert float((outputs[0] - outputs[1]).abs().max()) > 0.05 * float(outputs.abs().max())


@pytest.mark.parametrize(
    ("written", "made"),
    [(PAGE, page), (compatibility.PAGE, compatibility.page)],
    ids=["formats", "compatibility"],
)
def test_the_page_is_made_of_the_results(written: Path, made: Any) -> None:
    assert written.read_text() == made(json.loads((RESULTS / f"{written.stem}.json").read_text()))


def test_the_page_has_the_networks_that_it_should() -> None:
    others = {subject.name for subject in SUBJECTS if subject.architecture is not None and "cifar" not in subject.name}
    assert len(others) >= 25
    assert {subject.name for subject in SUBJECTS if subject.architecture is None} == {
        "lraspp_mobilenet_v3_large",
        "row_lstm",
    }
