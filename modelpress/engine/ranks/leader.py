"""The leader's side: the process that does the job, and what it asks of the others in a training."""

from __future__ import annotations

import torch
from torch import Tensor

from modelpress.engine.ranks.assignment import Assignment
from modelpress.engine.ranks.exchange import Exchange
from modelpress.engine.ranks.group import Group


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


class Ranks:
    """The processes of one job: this one alone."""

    size = 1

    def enlist(self, assignment: Assignment, images: Tensor, labels: Tensor) -> Crew:  # noqa: ARG002
        """Have every process begin a training; `images` (N, C, H, W) and `labels` (N,) are the whole data set's.

        Whoever enlists a crew has it finish before the next; an error in between has to end the job.
        """
        return Crew()


ALONE = Ranks()


class Leader(Ranks):
    """The processes of one job, seen from rank 0."""

    def __init__(self, group: Group) -> None:
        self.size = group.size
        self._group = group

    def enlist(self, assignment: Assignment, images: Tensor, labels: Tensor) -> Crew:
        """See above. Raises RankLost."""
        group = self._group
        group.send(assignment)
        group.send(images.shape)
        # Images lie channels last: turned so, they are sent as they are.
        group.broadcast(images.permute(0, 2, 3, 1).contiguous())
        group.broadcast(labels.contiguous())
        return _Followed(Exchange(group, assignment.module, list(assignment.loss.parameters())), assignment.threads)

    def dismiss(self) -> None:
        """Tell the followers that the job is done. Raises RankLost."""
        self._group.send(None)


class _Followed(Crew):
    def __init__(self, exchange: Exchange, threads: int) -> None:
        self._exchange = exchange
        self._threads = torch.get_num_threads()
        torch.set_num_threads(threads)  # the others need theirs

    def begin_step(self) -> None:
        self._exchange.send_weights()

    def combine(self, figures: Tensor, weight: float) -> Tensor:
        self._exchange.give_gradients(figures, weight)
        return self._exchange.take_gradients()

    def finish(self) -> None:
        self._exchange.send_end()
        torch.set_num_threads(self._threads)
