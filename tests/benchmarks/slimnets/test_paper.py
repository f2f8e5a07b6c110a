"""The paper's figures, written down a second time from the list of what it reports."""

from __future__ import annotations

import pytest

from benchmarks.slimnets import paper


def test_accuracies_are_the_papers() -> None:
    percents = {
        table: {key: round(100 * published.top1, 2) for key, published in figures.items()}
        for table, figures in {
            "gradual": paper.GRADUAL,
            "one-shot": paper.ONE_SHOT,
            "labels": paper.STUDENTS,
            "distilled": paper.DISTILLED,
            "then pruned": paper.DISTILLED_THEN_PRUNED,
        }.items()
    }
    students = ("snn_1k", "snn_10k", "cnn_1k", "cnn_10k", "alexnet_cifar", "nin_cifar")
    assert percents == {
        "gradual": {0.4: 92.22, 0.75: 91.57, 0.875: 88.82},
        "one-shot": {0.4: 89.69, 0.75: 89.13, 0.875: 86.16},
        "labels": dict(zip(students, (76.96, 77.17, 79.07, 80.85, 72.27, 88.88), strict=True)),
        "distilled": dict(zip(students, (77.87, 79.19, 81.23, 82.23, 80.78, 90.57), strict=True)),
        "then pruned": {0.4: 89.29, 0.75: 88.69, 0.875: 85.44},
    }


def test_ratios_and_ranks_are_the_papers() -> None:
    assert sum(paper.RANKS) == 5 + 24 + 48 + 48 + 64 + 128 + 128 + 160 + 192 + 256 + 6 * 320
    assert len(paper.RANKS) == 16
    assert paper.LOW_RANK.ratio == pytest.approx(2.43, abs=0.005)
    assert paper.DISTILLED_THEN_PRUNED[0.75].ratio == 85
    assert paper.DISTILLED_THEN_PRUNED[0.75].retention == pytest.approx(0.96, abs=0.0005)
    assert paper.LOW_RANK.retention > 1
