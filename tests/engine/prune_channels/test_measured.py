"""Targets that are measured on each candidate. Files are written for real; exports and times are the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from modelpress.engine.formats import compact
from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.engine.prune_channels import measured
from modelpress.engine.prune_channels.step import prune_channels
from modelpress.engine.quantize.step import quantize
from modelpress.spec.failure import IncompatibleSpec, OutOfMemory
from modelpress.spec.report import Latency
from modelpress.spec.steps import LayerSelection, Prune, PruneChannels, Quantize
from tests.support.contexts import context
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network


def run(original: Network, kind: str, removed: float, **options: object) -> Network:
    step = PruneChannels.model_validate({"target": {"kind": kind, "removed": removed}, **options})
    return prune_channels(original, step, context(original)).network


def size(one: Network, path: Path) -> int:
    compact.write(one, path)
    return path.stat().st_size


def plain(original: Network) -> Network:
    return original


def sparse(original: Network) -> Network:
    chosen = LayerSelection(include=("features.11", "features.15", "classifier.1"))
    return prune(original, Prune(sparsity=0.95, scope="layer", layers=chosen), context(original)).network


def coded(original: Network) -> Network:
    return quantize(original, Quantize(bits=4), context(original)).network


@pytest.mark.parametrize("made", [plain, sparse, coded])
def test_so_many_bytes_of_the_file_are_gone(made: object, tmp_path: Path) -> None:
    original = made(network(describe("vgg11_bn_cifar", width=0.25, num_classes=3)))  # type: ignore[operator]
    result = run(original, "stored_bytes", 0.5)
    gone = 1 - size(result, tmp_path / "after.mpz") / size(original, tmp_path / "before.mpz")
    assert 0.5 <= gone < 0.51


class Stopwatch:
    """Tells the time of a file by its bytes, as if a part of it were not theirs."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def __call__(self, paths: Sequence[Path], shape: Sequence[int]) -> list[Latency]:
        assert tuple(shape) == (1, 8, 8)
        times = [1000.0 + path.stat().st_size for path in paths]
        self.told.append((times[0], times[1]))
        return [
            Latency(runtime="onnxruntime", precision="fp32", threads=1, batch=1, p50_ms=time, p90_ms=time)
            for time in times
        ]


def test_so_much_of_the_time_is_gone_as_told_of_the_exported_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Stopwatch()
    monkeypatch.setattr(measured, "measure_latency", watch)
    monkeypatch.setattr(measured.onnx, "write", compact.write)
    original = tiny_network(classes=3)
    result = run(original, "latency", 0.4)
    assert 1 <= len(watch.told) <= 6
    assert len({before for before, _ in watch.told}) == 1
    for one, name in ((original, "before"), (result, "after")):
        compact.write(one, tmp_path / name)
    before, after = (1000.0 + (tmp_path / name).stat().st_size for name in ("before", "after"))
    assert (before, after) in watch.told
    assert 0.4 <= 1 - after / before <= 0.45
    # Of those that were timed, the one that takes the least and reaches it.
    assert after == max(time for _, time in watch.told if 1 - time / before >= 0.4)


def test_a_share_that_no_candidate_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "measure_latency", Stopwatch())
    monkeypatch.setattr(measured.onnx, "write", compact.write)
    with pytest.raises(IncompatibleSpec, match=r"at most [\d.]+% of the latency can be removed"):
        run(tiny_network(classes=3), "latency", 0.9, max_layer_share=0.25)


@pytest.mark.parametrize(
    ("raised", "told", "message"),
    [
        (
            RuntimeError("node 17 has no symbol"),
            IncompatibleSpec,
            "cannot be exported .* .RuntimeError.*`latency`",
        ),
        (MemoryError("too much"), OutOfMemory, "ran out while exporting the network to ONNX"),
    ],
)
def test_a_network_that_cannot_be_exported(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, told: type[Exception], message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(told, match=message):
        run(tiny_network(classes=3), "latency", 0.5)
