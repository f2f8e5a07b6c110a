"""Where a job computes."""

from __future__ import annotations

import torch

from modelpress.spec.failure import IncompatibleSpec


def choose_device(asked: str) -> torch.device:
    """The device of a task that asks for `auto`, `cpu` or `cuda`. Raises IncompatibleSpec when there is no GPU."""
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise IncompatibleSpec("the device `cuda` was asked for, but torch sees no GPU here; use `cpu` or `auto`")
    return torch.device("cuda" if asked != "cpu" and available else "cpu")
