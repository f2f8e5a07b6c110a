from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpress.engine.prune.schedule import Updates, cubic_sparsity
from modelpress.spec.steps import Cubic


def test_equation_1_by_hand():
    # s_i = 0, s_f = 0.8: 0.8 - 0.8 (1 - share)^3
    assert [cubic_sparsity(0.0, 0.8, share) for share in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(
        [0.0, 0.8 - 0.8 * 27 / 64, 0.7, 0.8 - 0.8 / 64, 0.8]
    )
    assert cubic_sparsity(0.5, 0.9, 0.5) == pytest.approx(0.85)


def test_updates_by_hand():
    updates = Updates.of(Cubic(begin=0.2, end=0.8, frequency=4), 20)
    assert {step: updates.share(step) for step in range(1, 21) if updates.share(step) is not None} == pytest.approx(
        {4: 0.0, 8: 1 / 3, 12: 2 / 3, 16: 1.0}
    )


@given(
    begin=st.floats(0, 0.99),
    length=st.floats(0.001, 1),
    frequency=st.integers(1, 100),
    steps=st.integers(1, 500),
)
def test_it_grows_and_always_comes_to_its_end(begin: float, length: float, frequency: int, steps: int):
    end = min(begin + length, 1.0)
    updates = Updates.of(Cubic(begin=begin, end=end, frequency=frequency), steps)
    shares = [share for step in range(1, steps + 1) if (share := updates.share(step)) is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(0 <= share <= 1 for share in shares)
