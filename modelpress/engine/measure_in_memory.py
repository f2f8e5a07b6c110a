"""Figures of a network between two steps, before there is a file to reload."""

from __future__ import annotations

import torch

from modelpress.engine.data.dataset import ImageData
from modelpress.engine.latency import take_turns, torch_contender
from modelpress.engine.layer_figures import layer_figures
from modelpress.engine.loading import preprocessing_of
from modelpress.engine.measure import count_nonzero, count_parameters, evaluate, peak_memory
from modelpress.engine.network import Network
from modelpress.spec.report import Measurement


def measure_in_memory(
    network: Network, data: ImageData | None, device: torch.device, latency_seconds: float
) -> Measurement:
    """The figures of a network that lies on the CPU, between two steps; accuracy is taken on `device`.

    It is run for `latency_seconds` to be timed.
    """
    accuracy = None
    if data is not None:
        module = network.module.to(device)
        accuracy = evaluate(module, data.heldout_images, data.heldout_labels, preprocessing_of(network), device)
        module.to("cpu")
    peak = peak_memory(device)
    macs, layers = layer_figures(network.module, network.description)
    return Measurement(
        measured_on="memory",
        parameters=count_parameters(network.module),
        nonzero_parameters=count_nonzero(network.module),
        macs=macs,
        accuracy=accuracy,
        latencies=tuple(
            take_turns([torch_contender(network.module)], network.description.input_shape, seconds=latency_seconds)
        ),
        layers=layers,
        peak_memory_bytes=peak,
    )
