"""What an artifact needs that is not installed."""

from __future__ import annotations

import pytest

from modelpress.engine.formats import extras
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.job import DEFAULT_ARTIFACTS, ArtifactKind


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(extras, "find_spec", asked.append)
    extras.require_extras(DEFAULT_ARTIFACTS)
    assert asked == []
    with pytest.raises(IncompatibleSpec, match=r'`openvino` needs .* `pip install "modelpress\[openvino\]"`'):
        extras.require_extras([*DEFAULT_ARTIFACTS, ArtifactKind.OPENVINO])
    assert asked == ["openvino"]


def test_an_extra_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    extras.require_extras(ArtifactKind)
