"""The leader's side: the process that does the job, and what it asks of the others in a training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from modelpress.engine.ranks.assignment import Assignment
from modelpress.engine.ranks.exchange import Exchange
from modelpress.engine.ranks.group import Group, RankLost


class Crew:
    """The processes that compute one training: this one alone."""

    def begin_step(self) -> None:
        """Make the network's weights known to all, before each forward pass."""

    def combine(self, figures: Tensor, weight: float) -> Tensor:  # noqa: ARG002 - a crew of several needs it
        """Turn this process's gradients and figures (3,) of a batch into those of the whole batch.

        `weight` is this process's share of the batch's images.
        """
        return figures

    def finish(self) -> None:
        """No step follows."""

    def abandon(self) -> None:
        """No step follows, whatever error came in between; all are ready for another training."""


class Ranks:
    """The processes of one job: this one alone."""

    size = 1

    def enlist(self, assignment: Assignment, images: Tensor, labels: Tensor) -> Crew:  # noqa: ARG002
        """Have every process begin a training; `images` (N, C, H, W) and `labels` (N,) are the whole data set's.

        Whoever enlists a crew has it finish, or abandons it, before the next; any other error in between has to end
        the job.
        """
        return Crew()

    def abandon(self) -> None:
        """End the training at work, if there is one, whose error came up to the caller."""


ALONE = Ranks()


class Leader(Ranks):
    """The processes of one job, seen from rank 0."""

    def __init__(self, group: Group) -> None:
        self.size = group.size
        self._group = group
        self._crew = Crew()

    def enlist(self, assignment: Assignment, images: Tensor, labels: Tensor) -> Crew:
        """See above. Raises RankLost."""
        group = self._group
        # First, as it takes memory: from the next line on the others wait for our weights.
        exchange = Exchange(group, assignment.module, list(assignment.loss.parameters()))
        group.send(assignment)
        group.send(images.shape)
        # Images lie channels last: turned so, they are sent as they are.
        group.broadcast(images.permute(0, 2, 3, 1).contiguous())
        group.broadcast(labels.contiguous())
        self._crew = _Followed(exchange, assignment.threads)
        return self._crew

    def abandon(self) -> None:
        """See above. Raises RankLost."""
        crew, self._crew = self._crew, Crew()
        crew.abandon()

    def dismiss(self) -> None:
        """Tell the followers that the job is done. Raises RankLost."""
        self._group.send(None)


class _Followed(Crew):
    def __init__(self, exchange: Exchange, threads: int) -> None:
        self._exchange = exchange
        # The others wait for the leader's next word, or for its part of the gradients; or they are told something; or
        # the training is over.
        self._stands: Literal["word", "gradients", "told", "over"] = "word"
        self._threads = torch.get_num_threads()
        torch.set_num_threads(threads)  # the others need theirs

    def begin_step(self) -> None:
        self._stands = "told"
        self._exchange.send_weights()
        self._stands = "gradients"

    def combine(self, figures: Tensor, weight: float) -> Tensor:
        self._give(figures, weight)
        return self._exchange.take_gradients()

    def finish(self) -> None:
        self._stands = "told"
        self._exchange.send_end()
        torch.set_num_threads(self._threads)
        self._stands = "over"

    def abandon(self) -> None:
        if self._stands == "told":
            raise RankLost("the others no longer know where this training stands")
        if self._stands == "gradients":
            self._give(None, 0.0)
        if self._stands == "word":
            self.finish()

    def _give(self, figures: Tensor | None, weight: float) -> None:
        self._stands = "told"
        self._exchange.give_gradients(figures, weight)
        self._stands = "word"
