"""The artifact `model.pte`: the network as an ExecuTorch program, for phones and other small devices.

One method, `forward`: one image, fp32 (1, C, H, W), normalised as the network's preprocessing says, to scores, fp32
(1, classes). The batch is fixed, since a program's memory is planned ahead for the largest batch that it takes.
Operators that XNNPACK has kernels for are handed to it, with their weights packed for it; what is left runs by
ExecuTorch's portable kernels.

Needs the extra `executorch`.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelpress.engine.formats.exporting import exportable, exporting
from modelpress.engine.network import Network


def write(network: Network, path: Path) -> None:
    """Write the network, with weights inside. The same network always gives the same bytes.

    Raises IncompatibleSpec when it cannot be exported, and OutOfMemory.
    """
    module, example = exportable(network)
    with exporting("ExecuTorch", "leave out the artifact `executorch`"), _quiet():
        lower = importlib.import_module("executorch.exir").to_edge_transform_and_lower
        xnnpack = importlib.import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        program = torch.export.export(module, (example[:1],))
        content = lower(program, partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().buffer
    path.write_bytes(content)


def open_file(path: Path, threads: int) -> Callable[[np.ndarray], np.ndarray]:
    """What runs the file with so many threads: images (N, C, H, W), one after the other, to outputs (N, classes).

    The threads are the whole process's: what was opened with another number must not run any more.
    """
    with _quiet():
        _use_threads(threads)
        runtime = importlib.import_module("executorch.runtime").Runtime.get()
    method = runtime.load_program(path).load_method("forward")

    def run(images: np.ndarray) -> np.ndarray:
        outputs = [method.execute([torch.from_numpy(image[None])])[0] for image in images]
        return torch.cat(outputs).numpy()

    return run


def _use_threads(threads: int) -> None:
    runtime: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
    # Only when needed: programs that were loaded before keep a pointer to the pool that a reset takes away.
    if runtime._threadpool_get_thread_count() != threads:
        runtime._unsafe_reset_threadpool(threads)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what ExecuTorch and the packages that it loads warn of in their own code, to Python and to the log."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
