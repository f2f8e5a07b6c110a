"""Figures as people read them."""

from __future__ import annotations

import pytest

from modelpress.spec.figures import in_bytes, in_counts, in_percent, in_times


@pytest.mark.parametrize(
    ("count", "bytes_text", "count_text"),
    [
        (0, "0 B", "0"),
        (999, "999 B", "999"),
        (1000, "1 kB", "1 k"),
        (999_499, "999 kB", "999 k"),
        (999_500, "1 MB", "1 M"),
        (20_565_834, "20.6 MB", "20.6 M"),
        (4_000_000_000_000, "4 TB", "4 T"),
    ],
)
def test_three_digits_and_a_unit(count: int, bytes_text: str, count_text: str) -> None:
    assert (in_bytes(count), in_counts(count)) == (bytes_text, count_text)


def test_ratios_and_shares() -> None:
    assert [in_times(ratio) for ratio in (1, 3.14159, 99.96, 123.4, None)] == ["1x", "3.14x", "100x", "123x", "-"]
    assert [in_percent(share) for share in (0.91234, 1, None)] == ["91.23%", "100.00%", "-"]
    assert in_percent(0.91234, digits=1) == "91.2%"
