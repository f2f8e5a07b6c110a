"""How long a forward pass takes: medians over runs of several networks that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from modelpress.engine.measure import evaluating
from modelpress.engine.runtimes import OPENERS
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind, Runtime
from modelpress.spec.report import Latency
from modelpress.spec.task import LATENCY_SECONDS

# A block of one network's runs before the other's turn: long enough that the caches hold that network's weights (a
# turn after every run would charge the small one for what the large one evicted), short enough that a machine that
# slows down slows both.
_BLOCK_SECONDS = 0.05
_MOST_RUNS = 2000
# A large batch takes long, and its time hardly varies.
_LEAST_RUNS, _LEAST_BATCH_RUNS = 10, 3

# Images of a large batch: 32 of 32 x 32, so that a pass of a large network takes well under a second; fewer of larger.
_LARGE_BATCH, _BATCH_PIXELS = 32, 2**18


@dataclass(frozen=True)
class Contender:
    """A network that is ready to run: `run` takes fp32 images (N, C, H, W)."""

    runtime: Runtime
    precision: Literal["fp32", "int8"]
    run: Callable[[np.ndarray], object]


def file_contender(path: Path, kind: ArtifactKind, threads: int = 1) -> Contender:
    """An exported file in its own runtime on the CPU."""
    facts = ARTIFACT_FILES[kind]
    return Contender(facts.runtime, facts.precision, OPENERS[facts.runtime](path, threads))


def torch_contender(module: nn.Module) -> Contender:
    """A module on the CPU, run eagerly."""

    def run(images: np.ndarray) -> object:
        with evaluating(module), torch.inference_mode():
            return module(torch.from_numpy(images))

    return Contender("pytorch", "fp32", run)


def graph_contender(graph: nn.Module) -> Contender:
    """The graph of a `.pt2` file on the CPU."""

    def run(images: np.ndarray) -> object:
        with torch.inference_mode():
            return graph(torch.from_numpy(images))

    return Contender("torch_export", "fp32", run)


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """PyTorch computes with so many threads; it is given back those that it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def large_batch(input_shape: Sequence[int]) -> int:
    """Images of the large batch that latency is measured at, for images of `input_shape` (C, H, W); 2 at least."""
    return max(2, min(_LARGE_BATCH, _BATCH_PIXELS // (input_shape[-2] * input_shape[-1])))


def take_turns(
    contenders: Sequence[Contender],
    input_shape: Sequence[int],
    *,
    threads: int = 1,
    batch: int = 1,
    seconds: float = LATENCY_SECONDS,
) -> list[Latency]:
    """Latency of each contender on images of `input_shape` (C, H, W), in their order.

    They take turns in short blocks, so that all of them saw the same machine state; `seconds` is the time given to
    each, but each runs at least ten times after its warm-up, and three times in a batch. PyTorch gets `threads`
    meanwhile; a file has those that it was opened with.
    """
    images = np.random.default_rng(0).standard_normal((batch, *input_shape), dtype=np.float32)
    least = _LEAST_RUNS if batch == 1 else _LEAST_BATCH_RUNS
    times: list[list[float]] = [[] for _ in contenders]
    with torch_threads(threads):
        for contender in contenders:
            for _ in range(3 if batch == 1 else 1):
                contender.run(images)
        while any(len(runs) < least or (sum(runs) < seconds and len(runs) < _MOST_RUNS) for runs in times):
            for contender, runs in zip(contenders, times, strict=True):
                contender.run(images)  # fetches the weights back into the caches; not counted
                runs += _timed_block(contender, images)
    return [
        Latency(
            runtime=contender.runtime,
            precision=contender.precision,
            threads=threads,
            batch=batch,
            p50_ms=float(np.percentile(runs, 50)) * 1e3,
            p90_ms=float(np.percentile(runs, 90)) * 1e3,
        )
        for contender, runs in zip(contenders, times, strict=True)
    ]


def measure_latency(
    paths: Sequence[Path],
    input_shape: Sequence[int],
    *,
    seconds: float = LATENCY_SECONDS,
) -> list[Latency]:
    """Of one image in ONNX Runtime on one thread, for each fp32 ONNX file in the order of `paths`; see `take_turns`."""
    contenders = [file_contender(path, ArtifactKind.ONNX) for path in paths]
    return take_turns(contenders, input_shape, seconds=seconds)


def _timed_block(contender: Contender, images: np.ndarray) -> list[float]:
    runs: list[float] = []
    while not runs or (sum(runs) < _BLOCK_SECONDS and len(runs) < _MOST_RUNS // 10):
        start = time.perf_counter()
        contender.run(images)
        runs.append(time.perf_counter() - start)
    return runs
