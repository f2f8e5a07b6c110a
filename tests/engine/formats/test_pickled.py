"""Checkpoints with objects of Python beside the tensors: harmless ones are passed over, all others refused."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.engine.formats import pickled
from modelpress.engine.formats.state_dict import read_weights
from modelpress.spec.failure import InvalidModel

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1.5, -0.0])}


def saved(content: Any, folder: Path, **options: Any) -> Path:
    torch.save(content, folder / "model.pt", **options)
    return folder / "model.pt"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, nested=argparse.Namespace(path=Path("runs"))),
        np.float64(0.9),
        np.int64(3),
        np.arange(3),
        {"best": [np.float32(0.5)], "folder": Path("runs")},
    ],
    ids=["Namespace", "float64", "int64", "array", "nested"],
)
def test_harmless_objects_beside_the_state_dict_are_passed_over(beside: Any, zipped: bool, tmp_path: Path) -> None:
    path = saved({"args": beside, "state_dict": STATE}, tmp_path, _use_new_zipfile_serialization=zipped)
    state = read_weights(path, "pt", STATE).tensors
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


def test_nothing_of_numpy_or_argparse_is_made(tmp_path: Path) -> None:
    content = pickled.load(saved({"args": argparse.Namespace(lr=1), "best": np.float64(0.9)}, tmp_path), mmap=True)
    assert {key: type(value) for key, value in content.items()} == {"args": pickled.Aside, "best": pickled.Aside}


def test_the_allowance_ends_with_the_reading(tmp_path: Path) -> None:
    path = saved({"args": argparse.Namespace(lr=1)}, tmp_path)
    before = set(torch.serialization.get_safe_globals())
    pickled.load(path, mmap=True)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(Exception, match="Namespace was not an allowed global"):
        torch.load(path, weights_only=True)


class Run:
    """Unpickling one would start a program."""

    def __reduce__(self) -> Any:
        return subprocess.check_output, (["true"],)


class Config:
    """A script's own class."""


@pytest.mark.parametrize(
    ("beside", "name"), [(Config(), "test_pickled.Config"), (Run(), "check_output"), (print, "print")]
)
def test_other_objects_are_refused_by_their_key(beside: Any, name: str, tmp_path: Path) -> None:
    path = saved({"epoch": 3, "hyper_parameters": beside, "state_dict": STATE}, tmp_path)
    with pytest.raises(InvalidModel) as raised:
        read_weights(path, "pt", STATE)
    assert "under the key 'hyper_parameters'" in raised.value.message
    assert name in raised.value.message
    assert 'torch.save(checkpoint["state_dict"], "weights.pt")' in raised.value.message


def test_a_whole_model_is_refused_with_the_lines_to_export_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel) as raised:
        read_weights(saved(nn.Linear(2, 2), tmp_path), "pt", STATE)
    assert "the first is torch.nn.modules.linear.Linear" in raised.value.message
    assert 'torch.export.save(program, "model.pt2")' in raised.value.message


def test_a_file_of_passed_over_objects_alone_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="best \\(Python object\\)"):
        read_weights(saved({"best": np.float64(0.9)}, tmp_path), "pt", STATE)
