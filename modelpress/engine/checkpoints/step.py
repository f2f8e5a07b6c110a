"""The checkpoints of one step: what a training asks while it runs, and what a step asks before it trains."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from modelpress.engine.checkpoints.folder import CheckpointFolder
from modelpress.engine.checkpoints.snapshot import Snapshot, part_of
from modelpress.engine.checkpoints.stored_network import restored_structure, structure_snapshot
from modelpress.engine.network import Network

Facts = TypeVar("Facts", bound=BaseModel)

LOG = logging.getLogger(__name__)

# Writing takes at most this share of a training: where a file takes long, the next one comes later.
_MOST_SHARE = 0.05


class StepCheckpoints:
    """Nothing is kept, and no earlier attempt left anything."""

    seconds = 0.0
    """What earlier attempts spent on the step up to the checkpoint."""

    def interrupted(self, kind: type[Facts]) -> tuple[Network, Facts] | None:  # noqa: ARG002 - for those that keep
        """The network and the facts that an earlier attempt began its training with; None where there was none.

        The network's weights come later, with the training. Raises UnusableCheckpoint.
        """
        return None

    def begin_training(self, network: Network, facts: BaseModel) -> None:
        """What must be known beside the training itself to go on with it.

        For steps whose way to it is long, or cannot be gone again, as one that a clock decides. The others begin anew
        and come to the same network.
        """

    def take_saved(self) -> Snapshot | None:
        """The state of the training that an earlier attempt left, once; None for one that begins at its beginning."""
        return None

    def due(self) -> bool:
        """Whether it is time to keep the state of the training at work."""
        return False

    def keep(self, training: Snapshot) -> None:
        """Keep the state of the training at work, which is written when this returns."""


NO_CHECKPOINTS = StepCheckpoints()


class KeptStep(StepCheckpoints):
    """Kept in a folder every so many seconds of training, or never with None."""

    def __init__(
        self,
        folder: CheckpointFolder,
        index: int,
        every: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """What an earlier attempt left of step `index` is read now. Raises UnusableCheckpoint."""
        self._folder, self._index, self._every, self._clock = folder, index, every, clock
        left = folder.read("training")
        self._saved: Snapshot | None = None
        if left is not None and left[0].step == index:
            self.seconds, self._saved = left[0].seconds, left[1]
            LOG.info("the training of step %d goes on from the checkpoint of an earlier attempt", index)
        self._started = self._latest = clock()
        self._cost = 0.0  # seconds that the latest one took
        self._begun: dict[str, Snapshot] = {}

    def interrupted(self, kind: type[Facts]) -> tuple[Network, Facts] | None:
        """See above."""
        if self._saved is None:
            return None
        return restored_structure(part_of(self._saved, "structure")), part_of(self._saved, "facts").read(kind)

    def begin_training(self, network: Network, facts: BaseModel) -> None:
        """See above."""
        self._begun = {
            "structure": structure_snapshot(network),
            "facts": Snapshot(facts=facts.model_dump(mode="json")),
        }

    def take_saved(self) -> Snapshot | None:
        """See above."""
        saved, self._saved = self._saved, None
        return None if saved is None else part_of(saved, "training")

    def due(self) -> bool:
        """See above."""
        if self._every is None:
            return False
        if self._clock() - self._latest >= max(self._every, self._cost / _MOST_SHARE):
            return True
        return self._folder.is_wanted()

    def keep(self, training: Snapshot) -> None:
        """See above."""
        began = self._clock()
        seconds = self.seconds + began - self._started
        self._folder.write("training", {**self._begun, "training": training}, step=self._index, seconds=seconds)
        self._latest = self._clock()
        self._cost = self._latest - began
