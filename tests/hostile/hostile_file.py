"""One file of the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How a file comes in: as an upload of weights, of an exported network or of a data set, or as an artifact given to
# `modelpress.load`.
Door = Literal["model", "graph", "dataset", "artifact"]

# What a payload that was carried out leaves in the folder of the process that read it.
CANARY = "modelpress-canary"
COMMAND = f"touch {CANARY}"


@dataclass(frozen=True)
class HostileFile:
    """A file, and what may come of it."""

    name: str  # kind/what
    door: Door
    content: bytes
    may_be_taken: bool = False  # a change that does no harm; everything else has to be refused
