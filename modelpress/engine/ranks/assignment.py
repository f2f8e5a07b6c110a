"""A training as the leader gives it to its followers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.checkpoints.snapshot import Snapshot
from modelpress.engine.loss import Loss
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Training


@dataclass(frozen=True)
class Assignment:
    """What a follower needs to compute its part of each batch; the images follow by themselves.

    The network and the loss go together, as a loss may watch layers of the network. Both must be such that `pickle`
    takes them: no lambdas, no functions inside functions.
    """

    module: nn.Module
    loss: Loss
    preprocessing: Preprocessing
    training: Training
    arithmetic: Arithmetic
    classes: int
    seed: int
    least: int  # images that a rank needs to take part in a batch
    threads: int  # of a process, on the CPU
    place: Snapshot  # of the first batch in the order of images
    step: int  # steps that were made before
