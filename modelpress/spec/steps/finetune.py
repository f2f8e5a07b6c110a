"""The step `finetune`: training alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from modelpress.spec.config import Config
from modelpress.spec.training import Recovery


class Finetune(Config):
    """Train the network as it is now; weights pruned before stay zero."""

    kind: Literal["finetune"] = "finetune"
    training: Recovery = Field(description="The training.")
