"""What goes between the ranks in each step of a training: the leader's weights out, everybody's gradients in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn

from modelpress.engine.ranks.group import Group

# Figures of a batch that go along: its mean loss, then counts of right answers, of images with a label, and of ranks
# whose memory ran out.
_COUNTS = 3
_FIGURES = 1 + _COUNTS


class Exchange:
    """One training's weights and gradients, each sent as one tensor, in the same order on every rank.

    The gradients come with the running statistics of batch norms: their mean over the ranks, weighted by images,
    is what the leader goes on with, as if their batches had been one (but for the variance between them).
    """

    def __init__(self, group: Group, module: nn.Module, beside: Iterable[nn.Parameter]) -> None:
        """`beside` are parameters that the loss learns."""
        self._group = group
        parameters = [*module.parameters(), *beside]
        self._trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._statistics = _running_statistics(module)
        self._weights = _Flat([*self._trained, *self._statistics], group.device)
        figures = torch.zeros(_FIGURES, device=group.device)
        self._gradients = _Flat([*self._trained, *self._statistics, figures], group.device)
        self._goes_on = torch.zeros(1, dtype=torch.uint8)  # by gloo: a GPU would have to be waited for

    def send_weights(self) -> None:
        """Leader: begin a step. Raises RankLost."""
        self._goes_on.fill_(1)
        self._group.broadcast(self._goes_on)
        self._weights.pack([parameter.data for parameter in self._trained] + self._statistics)
        self._group.broadcast(self._weights.whole)

    def send_end(self) -> None:
        """Leader: no step follows. Raises RankLost."""
        self._goes_on.fill_(0)
        self._group.broadcast(self._goes_on)

    def receive_weights(self) -> bool:
        """Follower: take the leader's weights for the next step; False when none follows. Raises RankLost."""
        self._group.broadcast(self._goes_on)
        if not self._goes_on:
            return False
        self._group.broadcast(self._weights.whole)
        self._weights.unpack([parameter.data for parameter in self._trained] + self._statistics)
        return True

    def give_gradients(self, figures: Tensor | None, weight: float, *, ran_out: bool = False) -> None:
        """Any rank: add its part to the leader's sum. Raises RankLost.

        `figures` (3,), mean loss, right answers and labelled images, and the gradients are those of its images; None
        where it had none, or `ran_out` of memory over them. `weight` is its share of the batch's images.
        """
        flat = self._gradients
        if figures is None:
            flat.whole.zero_()
        else:
            flat.pack([*(parameter.grad for parameter in self._trained), *self._statistics, None])
            flat.parts[-1][:-1] = figures
            flat.whole[:-_COUNTS].mul_(weight)
        flat.parts[-1][-1] = float(ran_out)
        self._group.add_up(flat.whole)

    def take_gradients(self) -> Tensor:
        """Leader: put the sum in the place of its own gradients and running statistics; gives the figures (3,) of all.

        Raises torch's OutOfMemoryError when the memory of any rank ran out.
        """
        # A parameter without a gradient keeps none: nothing shall move it, not even the decay of weights.
        self._gradients.unpack([*(parameter.grad for parameter in self._trained), *self._statistics, None])
        *_, ran_out = figures = self._gradients.parts[-1].clone()
        if ran_out > 0:
            raise torch.OutOfMemoryError("the memory of another process of this job ran out")
        return figures[:-1]


class _Flat:
    """Tensors of given shapes in one piece of memory, float32."""

    def __init__(self, like: Sequence[Tensor], device: torch.device) -> None:
        ends = list(accumulate((tensor.numel() for tensor in like), initial=0))
        self.whole = torch.zeros(ends[-1], device=device)
        self.parts = [
            self.whole[begin:end].view(tensor.shape) for tensor, (begin, end) in zip(like, pairwise(ends), strict=True)
        ]

    @torch.no_grad()
    def pack(self, tensors: Sequence[Tensor | None]) -> None:
        """Copy in; zeros where there is None."""
        self.whole.zero_()
        parts, given = self._present(tensors)
        torch._foreach_copy_(parts, given)

    @torch.no_grad()
    def unpack(self, tensors: Sequence[Tensor | None]) -> None:
        """Copy out, but not to None."""
        parts, given = self._present(tensors)
        torch._foreach_copy_(given, parts)

    def _present(self, tensors: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [(part, tensor) for part, tensor in zip(self.parts, tensors, strict=True) if tensor is not None]
        return [part for part, _ in pairs], [tensor for _, tensor in pairs]


def _running_statistics(module: nn.Module) -> list[Tensor]:
    """Means and variances that norms keep for evaluation."""
    return [
        buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")
    ]
