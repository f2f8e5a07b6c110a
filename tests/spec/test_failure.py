"""Errors and the failures that they become."""

from __future__ import annotations

import modelpress.spec.failure as tree
from modelpress.spec.failure import CompressionError, Failure, FailureKind, GoalNotMet


def test_every_error_has_a_kind_of_its_own_and_is_drawn_in_the_tree() -> None:
    errors = CompressionError.__subclasses__()
    kinds = [error.kind for error in errors]
    assert len(set(kinds)) == len(kinds) == 8
    # What the service alone can see: no error of the engine.
    assert set(FailureKind) - set(kinds) == {FailureKind.TIMEOUT, FailureKind.WORKER_LOST, FailureKind.INTERNAL}
    for error in errors:
        assert error.__name__ in (tree.__doc__ or "")


def test_a_failure_carries_what_the_error_says() -> None:
    failure = GoalNotMet("too large", step=3).failure
    assert failure == Failure(kind=FailureKind.GOAL_NOT_MET, message="too large", step=3)
    assert str(GoalNotMet("too large")) == "too large"
