from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from modelpress.engine import journal
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.prune.schedule import complete_from, even_sparsity, rounds
from modelpress.engine.prune.step import prune
from modelpress.spec.steps import Cubic, Iterative, OneShot, Prune
from modelpress.spec.training import Recovery
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.tiny import tiny_network


def test_rounds_by_hand():
    assert rounds(Iterative(rounds=3, end=0.5), 8) == {0: 1 / 3, 2: 2 / 3, 4: 1.0}
    assert [even_sparsity(0.2, 0.8, share) for share in (0, 1 / 3, 0.5, 1)] == pytest.approx([0.2, 0.4, 0.5, 0.8])


@settings(max_examples=25, deadline=None)
@given(count=st.integers(2, 1000), end=st.floats(0.001, 1), steps=st.integers(1, 300))
def test_they_grow_and_come_to_their_end_within_the_training(count: int, end: float, steps: int):
    found = rounds(Iterative(rounds=count, end=end), steps)
    assert min(found) == 0
    assert max(found) <= steps
    assert [found[step] for step in sorted(found)] == sorted(found.values())
    assert found[max(found)] == 1.0


def test_when_the_full_sparsity_is_reached():
    assert complete_from(OneShot(), 8) == 0
    assert complete_from(Iterative(rounds=3, end=0.5), 8) == 4
    assert complete_from(Cubic(end=0.75, frequency=100), 8) == 6
    assert complete_from(Cubic(end=0.01), 8) == 1


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_each_round_takes_as_many_weights(monkeypatch: pytest.MonkeyPatch, scope: str):
    monkeypatch.setattr(journal, "_SECONDS_BETWEEN_REPORTS", 0.0)
    network = tiny_network(classes=3)
    seen: list[TrainingProgress] = []
    step = Prune.model_validate(
        {
            "sparsity": 0.75,
            "scope": scope,
            "schedule": {"kind": "iterative", "rounds": 3, "end": 0.5},
            "training": Recovery(epochs=1, batch_size=3, precision="fp32"),
        }
    )
    result = prune(network, step, context(network, noise(24), on_progress=seen.append)).network
    expected = [0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]  # after steps 1 to 8
    assert [progress.metrics["sparsity"] for progress in seen] == pytest.approx(expected, abs=2e-3)
    weights = [result.module.get_parameter(name) for name in result.masks]
    sizes = [weight.numel() for weight in weights]
    gone = [int((weight == 0).sum()) for weight in weights]
    assert sum(gone) == (sum(round(0.75 * size) for size in sizes) if scope == "layer" else round(0.75 * sum(sizes)))
    assert network.masks == {}


def test_it_needs_a_training():
    with pytest.raises(ValidationError, match="trains between rounds"):
        Prune(sparsity=0.5, schedule=Iterative())
