"""What torch's exporters are given: a copy of the module, an example batch, and the word that the batch is free."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from modelpress.engine.exhaustion import exhaustion
from modelpress.engine.network import Network
from modelpress.spec.failure import IncompatibleSpec

LOG = logging.getLogger(__name__)

LARGEST_BATCH = 4096


def exportable(network: Network) -> tuple[nn.Module, Tensor]:
    """A copy of the module, in evaluation mode on the CPU, and an example batch (2, C, H, W) for it."""
    # With an example batch of 1 the exporters would fix the batch.
    return copy.deepcopy(network.module).cpu().float().eval(), torch.zeros(2, *network.description.input_shape)


def free_batch() -> tuple[dict[int, object]]:
    """`dynamic_shapes` for a module that takes one batch: from 1 to LARGEST_BATCH images."""
    return ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},)


@contextmanager
def exporting(target: str, advice: str) -> Iterator[None]:
    """The block exports a network to `target`, without gradients.

    What the exporter cannot do is raised as IncompatibleSpec, with `advice` on what to leave out; OSError and
    OutOfMemory are raised as they are.
    """
    try:
        with _quiet(), torch.no_grad():
            yield
    except OSError:
        raise
    except Exception as error:  # the exporters' errors have no common class, and speak of their own insides
        ran_out = exhaustion(error, f"exporting the network to {target}")
        if ran_out is not None:
            raise ran_out from error
        LOG.exception("the exporter failed")
        raise IncompatibleSpec(
            f"this network cannot be exported to {target} ({type(error).__name__}; the log has the exporter's own "
            f"words); {advice}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of their own code, which a user can do nothing about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
