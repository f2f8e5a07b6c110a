"""Plots: points where their numbers are, names that cannot break the file, colours for both grounds."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.slimnets.svg import BOTTOM, DARK, HEIGHT, LEFT, LIGHT, RIGHT, TOP, WIDTH, Plot, Series, svg

SPACE = "{http://www.w3.org/2000/svg}"


def drawn(plot: Plot) -> ElementTree.Element:
    return ElementTree.fromstring(svg(plot))  # noqa: S314 - our own text


def test_points_lie_where_their_numbers_are() -> None:
    root = drawn(
        Plot("a & <b>", "x", "y", [Series("points", [(1, 0), (10, 50), (100, 100)], joined=False)], log_x=True)
    )
    assert root.findtext(f"{SPACE}title") == "a & <b>"
    marks = [(float(mark.attrib["cx"]), float(mark.attrib["cy"])) for mark in root.iter(f"{SPACE}circle")]
    (left, low), (middle, half), (right, high), _ = marks  # the last one is of the legend
    assert LEFT < left < middle < right < WIDTH - RIGHT
    assert HEIGHT - BOTTOM > low > half > high > TOP
    # On an axis of logarithms 10 lies between 1 and 100.
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert half == pytest.approx((low + high) / 2, abs=0.1)
    labels = [text.text for text in root.iter(f"{SPACE}text")]
    assert {"1", "10", "100", "0", "50", "points"} <= set(labels)


def test_a_line_is_joined_and_dashes_tell_others() -> None:
    series = [Series("one", [(0, 1), (1, 2)]), Series("two", [(0, 2), (1, 1)], dashed=True, colour=1)]
    lines = list(drawn(Plot("t", "x", "y", series)).iter(f"{SPACE}polyline"))
    assert [line.attrib["class"] for line in lines] == ["c0 line", "c0 line", "c1 line", "c1 line"]
    assert ["stroke-dasharray" in line.attrib for line in lines] == [False, False, True, True]


def test_one_point_has_axes_too_and_none_is_refused() -> None:
    assert len(list(drawn(Plot("t", "x", "y", [Series("one", [(5, 5)])])).iter(f"{SPACE}line"))) > 4
    with pytest.raises(ValueError, match="no points"):
        svg(Plot("t", "x", "y", [Series("none", [])]))


def test_both_grounds_have_a_colour_for_every_series() -> None:
    assert len(LIGHT) == len(DARK) == len(set(LIGHT)) == len(set(DARK))
    text = svg(Plot("t", "x", "y", [Series("one", [(0, 1), (1, 2)])]))
    assert "prefers-color-scheme:dark" in text
    assert all(colour in text for colour in (*LIGHT, *DARK))
