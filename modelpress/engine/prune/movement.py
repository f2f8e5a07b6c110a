"""How far a training moves weights away from zero (movement pruning: Sanh, Wolf and Rush 2020, arXiv 2005.07683)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot


class Movement:
    """Scores S = - sum over the steps of (dL/dW) W (equation 2), gathered while a training goes on.

    A step along -dL/dW takes a weight away from zero where (dL/dW) W < 0, so weights that grow score high and those
    that shrink score low, large or not. The paper's learning rate of the scores is a constant factor, which ranks
    nothing otherwise and is left out.

    A pruned weight is not forgotten: its value when it went stands in for W, and the gradient at its place, where the
    network sees zero, goes on adding to its score (the paper's straight-through estimator). It comes back with
    that value when its score is among the highest again.
    """

    def __init__(self) -> None:
        self._watched: Mapping[str, nn.Parameter] = {}
        self._scores: dict[str, Tensor] = {}
        self._parked: dict[str, Tensor] = {}  # values of pruned weights; zero where a weight is kept

    def watch(self, weights: Mapping[str, nn.Parameter]) -> None:
        """Say whose scores they will be, before the training."""
        self._watched = weights

    @torch.no_grad()
    def gather(self) -> None:
        """Add what the gradients of one batch say; pruned weights are zero, and have gradients all the same."""
        for name, weight in self._watched.items():
            if name not in self._scores:
                self._scores[name] = torch.zeros_like(weight)
                self._parked[name] = torch.zeros_like(weight)
            if weight.grad is not None:
                self._scores[name].addcmul_(weight.grad, weight + self._parked[name], value=-1.0)

    def snapshot(self) -> Snapshot:
        """Scores, and values of pruned weights."""
        scores = {f"score/{name}": score for name, score in self._scores.items()}
        return Snapshot(scores | {f"parked/{name}": value for name, value in self._parked.items()})

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from another's scores of the watched weights. Raises UnusableCheckpoint."""
        if not snapshot.tensors:  # of before the first batch, when a teacher was still answering
            return
        self._scores = {name: snapshot.like(f"score/{name}", weight) for name, weight in self._watched.items()}
        self._parked = {name: snapshot.like(f"parked/{name}", weight) for name, weight in self._watched.items()}

    def __call__(self, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The scores as gathered so far, in the shapes of the weights; at least one batch comes first."""
        return {name: self._scores[name] for name in weights}

    @torch.no_grad()
    def exchange(self, weights: Mapping[str, nn.Parameter], kept: Mapping[str, Tensor]) -> None:
        """Give the weights that come back their values, and keep those of the weights that `kept` removes.

        The weights are masked as before; the new masks are still to be applied.
        """
        for name, mask in kept.items():
            weights[name].add_(self._parked[name])
            self._parked[name] = weights[name].masked_fill(mask, 0.0)
