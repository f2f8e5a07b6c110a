"""The artifact `model.pt2`: the network as a graph of PyTorch's own operators, for `torch.export.load`.

One input, fp32 (batch, C, H, W), normalised as the network's preprocessing says; one output, fp32 (batch, classes). The
batch is free, from 1 to `LARGEST_BATCH`. It loads without the network's code and without ModelPress, can be compiled
ahead of time, and is no file to take from a stranger: loading one can run code.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from modelpress.engine.formats.exporting import exportable, exporting, free_batch
from modelpress.engine.network import Network

# What the exporter notes at each node, and what would tell of this machine: the lines of code that made it, by path.
_TRACES = ("stack_trace", "source_fn_stack", "custom")


def write(network: Network, path: Path) -> None:
    """Write the network, with weights inside. The same network always gives the same bytes, whoever writes it.

    Raises IncompatibleSpec when it cannot be exported, and OutOfMemory.
    """
    module, example = exportable(network)
    with exporting("a `.pt2` file", "leave out the artifact `pt2`"):
        program = torch.export.export(module, (example,), dynamic_shapes=free_batch())
        _strip(program, example)
        content = io.BytesIO()  # a file would have its own name inside
        torch.export.save(program, content)
    path.write_bytes(content.getbuffer())


def _strip(program: ExportedProgram, example: Tensor) -> None:
    """Without the paths of this machine, and with an example input that takes no room."""
    for module in program.graph_module.modules():
        if isinstance(module, fx.GraphModule):
            for node in module.graph.nodes:
                for trace in _TRACES:
                    node.meta.pop(trace, None)
    # Kept, since compilers ask for it: one zero that is seen as a batch.
    program.example_inputs = ((torch.zeros(1).expand(example.shape),), {})
