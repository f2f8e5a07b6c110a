"""What an upload did not say, and where it was taken from instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from modelpress.engine.architectures.registry import build
from modelpress.engine.loading import load_inputs
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.task import TASK, Compress

GREY = Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3)


def _preprocessing(
    folder: Path, architecture: dict[str, Any], *, data: bool, given: Preprocessing | None = None
) -> tuple[Preprocessing | None, list[str]]:
    """What is done to pixels, and what was warned of. The images are black and white in equal parts."""
    save_file(build(ArchitectureRef.model_validate(architecture)).state_dict(), folder / "model")
    images = np.zeros((4, 32, 32, 3), np.uint8)
    images[:, ::2] = 255
    np.savez(folder / "data.npz", images=images, labels=[0, 0, 1, 1])
    task = TASK.validate_python(
        {
            "kind": "compress",
            "model": {
                "path": "model",
                "format": "safetensors",
                "architecture": architecture,
                "image_size": 32,
                "preprocessing": given,
                "sha256": "",
            },
            "dataset": {"path": "data.npz", "sha256": ""} if data else None,
            "recipe": {"steps": [{"kind": "prune", "sparsity": 0.5}]},
        }
    )
    assert isinstance(task, Compress)
    warnings: list[str] = []
    return load_inputs(task, folder, warnings.append).original.description.preprocessing, warnings


def _of(classes: int) -> dict[str, Any]:
    return {"architecture": "squeezenet1_1", "arguments": {"num_classes": classes}}


def test_what_the_published_weights_were_trained_with(tmp_path: Path) -> None:
    found, (warning,) = _preprocessing(tmp_path, _of(1000), data=False)
    assert found == Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert "as the makers of the network do for their own weights" in warning


def test_what_the_data_suggest_for_weights_that_are_the_user_s_own(tmp_path: Path) -> None:
    found, (warning,) = _preprocessing(tmp_path, _of(2), data=True)
    assert found is not None
    assert found.mean == found.std == pytest.approx((0.5, 0.5, 0.5))
    assert "by the data set's own mean" in warning


def test_what_was_given_is_what_is_done(tmp_path: Path) -> None:
    assert _preprocessing(tmp_path, _of(1000), data=False, given=GREY) == (GREY, [])
