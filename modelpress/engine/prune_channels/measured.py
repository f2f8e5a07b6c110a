"""Targets that are measured on each candidate, not counted: bytes of a file, and time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from modelpress.engine.formats import compact, onnx
from modelpress.engine.formats.tensor_stream import pack_state
from modelpress.engine.latency import measure_latency
from modelpress.engine.measure import count_macs
from modelpress.engine.network import Network
from modelpress.engine.prune_channels.candidates import Candidates

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """Shares of something that is gone, by the number of channels that go."""

    estimate: Callable[[int], float]  # quick, and roughly in proportion to what is measured
    measure: Callable[[int], float]
    slack: float  # by how much a share may be passed at no loss
    tries: int = 6  # a file takes seconds to write, a network tens of them to export and time


def measured_bytes(before: Network, candidates: Candidates, folder: Path) -> Measured:
    """Bytes of the compact container, against that of `before`; files are written into `folder`."""
    path = folder / "candidate.mpz"

    def size(network: Network) -> int:
        compact.write(network, path)
        return path.stat().st_size

    # Each tensor is taken to go on having as many bytes an element as it has now: what is masked or on a grid has few.
    current = candidates.current
    packed = {
        name: len(pack_state({name: tensor}, current.grids)) / max(1, tensor.numel())
        for name, tensor in current.module.state_dict().items()
    }

    def estimated(count: int) -> float:
        left: dict[str, Tensor] = candidates.outline(count).state_dict()
        return float(sum(packed[name] * tensor.numel() for name, tensor in left.items()))

    whole = size(before)
    # What is estimated of the network as it stands is what it measures.
    scale = (size(current) / whole) / estimated(0)
    return Measured(
        lambda count: 1 - scale * estimated(count), lambda count: 1 - size(candidates.network(count)) / whole, 0.002
    )


def measured_latency(before: Network, candidates: Candidates, folder: Path) -> Measured:
    """Time of one image in ONNX Runtime on one thread, each time in turns with `before`; estimated by MACs.

    Raises IncompatibleSpec when a network cannot be exported to ONNX.
    """
    shape = before.description.input_shape
    first, second = folder / "before.onnx", folder / "candidate.onnx"
    onnx.write(before, first)
    macs = count_macs(before.module, shape)

    def measure(count: int) -> float:
        onnx.write(candidates.network(count), second)
        whole, left = (latency.p50_ms for latency in measure_latency([first, second], shape))
        LOG.info(
            "with %d channels less an image takes %.3f ms, before the step %.3f ms (ONNX Runtime, one thread)",
            sum(map(len, candidates.gone(count).values())),
            left,
            whole,
        )
        return 1 - left / whole

    return Measured(lambda count: 1 - count_macs(candidates.outline(count), shape) / macs, measure, 0.03)
