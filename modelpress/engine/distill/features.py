"""What losses have in common that compare the inside of both networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from modelpress.engine.distill.hinton import HintonLoss
from modelpress.engine.loss import Loss, Origin


class FeatureLoss(Loss):
    """Hinton's loss, to which is added what compares activations; a class of its own says how.

    `taught` and `learnt` hold those of the latest forward pass of teacher and student, by the layers' names.
    """

    def __init__(self, hinton: HintonLoss, taught: Mapping[str, Tensor], learnt: Mapping[str, Tensor]) -> None:
        self._hinton = hinton
        self._taught, self._learnt = taught, learnt

    def teachers(self) -> Iterable[nn.Module]:
        """The one whose outputs and insides it compares."""
        return self._hinton.teachers()

    def follow(self, origin: Origin | None, labelled: Tensor | None = None) -> None:  # noqa: ARG002
        """The next batch. The teacher is asked about these very images, whatever it has said before."""
        self._hinton.follow(None, labelled)
