"""Networks for tests: small ones by name, with weights drawn from a seed."""

from __future__ import annotations

import torch
from pydantic import JsonValue

from modelpress.engine.architectures.registry import input_shape
from modelpress.engine.network import Network, rebuild, weighted_layers
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import FactorizedLayer, NetworkDescription


def describe(
    architecture: str, *edits: FactorizedLayer, image_size: int | None = None, **arguments: JsonValue
) -> NetworkDescription:
    """The description of a named network without preprocessing."""
    ref = ArchitectureRef(architecture=architecture, arguments=arguments)
    return NetworkDescription(architecture=ref, edits=edits, input_shape=input_shape(ref, image_size))


def network(description: NetworkDescription, seed: int = 0) -> Network:
    """The described network in evaluation mode. Running statistics are drawn too, so that norms are no identities."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = rebuild(description).eval()
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return Network(module, description)


def set_smallest_to_zero(network: Network, sparsity: float) -> None:
    """Zero this share of each treated layer's weights, the smallest, and nothing else."""
    with torch.no_grad():
        for layer in weighted_layers(network.module).values():
            weight = layer.get_parameter("weight")
            order = weight.abs().flatten().argsort()
            weight.view(-1)[order[: int(sparsity * weight.numel())]] = 0
