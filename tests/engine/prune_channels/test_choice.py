"""Which channels go, and how few of them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from modelpress.engine.prune_channels.choice import least, most_removable, near_least, ranked, rounded
from modelpress.spec.steps import ChannelTarget, PruneChannels

TARGET = ChannelTarget(kind="channels", removed=0.5)
SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=40).map(lambda gone: [0.0, *sorted(gone)])


def test_all_importances_over_their_group_s_mean_or_each_group_in_turn() -> None:
    scores = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([30.0, 10.0, 20.0, 40.0])}  # means 2 and 25
    sizes = {"a": 2, "b": 4}
    order = ranked(scores, PruneChannels(target=TARGET), sizes)
    # 10/25, 1/2, 20/25, 30/25; one channel of each always stays
    assert order == [("b", 1), ("a", 0), ("b", 2), ("b", 0)]
    local = ranked(scores, PruneChannels(target=TARGET, scope="local"), sizes)
    assert local == [("b", 1), ("a", 0), ("b", 2), ("b", 0)]


def test_what_went_in_earlier_rounds_counts() -> None:
    scores = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])}
    step = PruneChannels(target=TARGET, max_layer_share=0.5)
    # Of 8 channels 4 may go, and 2 are gone.
    assert ranked(scores, step, {"a": 8}) == [("a", 0), ("a", 1)]
    assert ranked(scores, step, {"a": 12}) == []


@given(st.integers(1, 200), st.floats(0.01, 1), st.integers(1, 64))
def test_what_a_layer_may_lose(channels: int, share: float, multiple: int) -> None:
    step = PruneChannels(target=TARGET, max_layer_share=share, round_to=multiple)
    most = most_removable(channels, step)
    assert 0 <= most < channels
    assert most <= share * channels + 1e-6
    assert most == 0 or (channels - most) % multiple == 0
    kept = rounded({"a": list(range(most))}, {"a": channels}, multiple)
    assert kept == ({"a": list(range(most))} if most else {})


@given(SHARES, st.floats(0.01, 1))
def test_the_least_is_found(gone: list[float], share: float) -> None:
    expected = next((count for count, value in enumerate(gone) if value >= share), None)
    assert least(len(gone) - 1, lambda count: gone[count] >= share) == expected


@given(SHARES, SHARES, st.floats(0.01, 0.99), st.integers(1, 8))
def test_near_the_least_reaches_the_share_whatever_the_estimate(
    gone: list[float], estimated: list[float], share: float, tries: int
) -> None:
    most = min(len(gone), len(estimated)) - 1
    measured: list[int] = []

    def measure(count: int) -> float:
        measured.append(count)
        return gone[count]

    found = near_least(most, share, lambda count: estimated[count], measure, slack=0.02, tries=tries)
    assert len(measured) <= tries
    assert len(set(measured)) == len(measured)
    if found is None:
        assert gone[most] < share
    else:
        assert gone[found] >= share
        assert found == min(count for count in measured if gone[count] >= share)


@given(st.integers(10, 5000), st.floats(0.05, 0.95), st.floats(0.5, 2))
def test_an_estimate_in_proportion_leads_there_in_few_tries(most: int, share: float, power: float) -> None:
    def estimate(count: int) -> float:
        return 1 - (1 - count / most) ** 2

    def measure(count: int) -> float:
        return float(1 - (1 - estimate(count)) ** power)

    found = near_least(most, share, estimate, measure, slack=0.02, tries=6)
    assert found is not None
    exact = least(most, lambda count: measure(count) >= share)
    assert exact is not None
    # Within the slack, or a channel of the least.
    assert measure(found) <= share + 0.02 or found <= exact + 1
