"""The contract of every artifact format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelpress.engine.formats.registry import CONVERTERS, QUANTIZERS, WRITERS
from modelpress.engine.reload import TOLERANCE
from modelpress.engine.runtimes import OPENERS
from modelpress.spec.job import ARTIFACT_FILES, DEFAULT_ARTIFACTS, RUNTIME_NAMES, ArtifactKind
from tests.support.networks import describe, network


def test_every_kind_of_the_spec_has_a_writer() -> None:
    assert sorted([*WRITERS, *CONVERTERS, *QUANTIZERS]) == sorted(ArtifactKind)
    assert list(ARTIFACT_FILES) == list(ArtifactKind)
    assert set(TOLERANCE) == set(ArtifactKind)
    assert set(RUNTIME_NAMES) == {"pytorch", "torch_export", *OPENERS}
    assert len({file.filename for file in ARTIFACT_FILES.values()}) == len(ArtifactKind)
    assert {kind for kind, file in ARTIFACT_FILES.items() if file.precision != "fp32"} == set(QUANTIZERS)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind in DEFAULT_ARTIFACTS])
class TestEveryFormat:
    def test_it_writes_one_file_and_leaves_the_network_alone(self, kind: ArtifactKind, tmp_path: Path) -> None:
        original = network(describe("snn_1k"))
        before = {name: tensor.clone() for name, tensor in original.module.state_dict().items()}
        filename = ARTIFACT_FILES[kind].filename
        WRITERS[kind](original, tmp_path / filename)
        assert [path.name for path in tmp_path.iterdir()] == [filename]
        assert all(torch.equal(tensor, before[name]) for name, tensor in original.module.state_dict().items())

    def test_it_replaces_an_older_file(self, kind: ArtifactKind, tmp_path: Path) -> None:
        path = tmp_path / ARTIFACT_FILES[kind].filename
        path.write_bytes(bytes(20_000_000))
        WRITERS[kind](network(describe("snn_1k")), path)
        assert path.stat().st_size < 3_000_000
