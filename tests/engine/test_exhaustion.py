"""Real errors of memory and disk, and what is said of them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.engine.exhaustion import exhaustion, naming
from modelpress.spec.failure import Diverged, OutOfDisk, OutOfMemory


def _raised(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:
        work()
    return caught.value


def test_torch_out_of_memory_on_the_cpu() -> None:
    error = _raised(lambda: torch.empty(2**60, dtype=torch.uint8))
    failure = exhaustion(error, "step 2 (prune) was at work", step=2, advice="lower its batch size")
    assert isinstance(failure, OutOfMemory)
    assert failure.step == 2
    assert failure.message == "memory ran out while step 2 (prune) was at work; lower its batch size"


def test_numpy_out_of_memory() -> None:
    error = _raised(lambda: np.empty(2**60, dtype=np.uint8))
    assert isinstance(exhaustion(error, "loading"), OutOfMemory)


def test_the_gpu_is_named() -> None:
    failure = exhaustion(torch.OutOfMemoryError("CUDA out of memory"), "training")
    assert isinstance(failure, OutOfMemory)
    assert failure.message.startswith("the GPU's memory ran out while training")


def test_a_full_disk() -> None:
    def write() -> None:
        with Path("/dev/full").open("wb") as file:
            file.write(b"x")

    failure = exhaustion(_raised(write), "writing model.onnx")
    assert isinstance(failure, OutOfDisk)
    assert "writing model.onnx" in failure.message


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), RuntimeError("shapes cannot be multiplied"), OSError(errno.EACCES, "denied"), KeyError("x")],
)
def test_other_errors_are_not_taken_for_these(error: Exception) -> None:
    assert exhaustion(error, "anything") is None


def _fail(error: BaseException, **place: Any) -> None:
    with naming("working", **place):
        raise error


def test_a_typed_error_is_given_its_step_and_keeps_the_one_it_has() -> None:
    with pytest.raises(Diverged) as caught:
        _fail(Diverged("lower the rate"), step=3)
    assert caught.value.step == 3
    with pytest.raises(Diverged) as caught:
        _fail(Diverged("lower the rate", step=1), step=3)
    assert caught.value.step == 1


def test_memory_that_ran_out_gets_its_type_and_other_errors_stay_as_they_are() -> None:
    with pytest.raises(OutOfMemory, match="memory ran out while working; buy more") as caught:
        _fail(MemoryError(), step=2, advice="buy more")
    assert caught.value.step == 2
    with pytest.raises(KeyError):
        _fail(KeyError("x"), step=2)
