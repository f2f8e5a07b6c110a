"""A training whose batch did not fit into memory: which one would have, and the same training in halves."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from modelpress.engine.exhaustion import BatchTooLarge, free_memory, ran_out_of_memory
from modelpress.engine.footprint import footprint
from modelpress.engine.network import Network
from modelpress.engine.step import StepContext
from modelpress.spec.cost import fitting_batch, moments
from modelpress.spec.steps import Step, step_training
from modelpress.spec.training import Training

HALVES = 2


@contextmanager
def naming_batch(network: Network, training: Training, images: int, context: StepContext) -> Iterator[None]:
    """Around a training of `network` on so many `images`: memory that runs out is a BatchTooLarge, and no other process
    trains on.

    Raises RankLost where the others cannot be told.
    """
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        context.ranks.abandon()
        # The frames that the error came through hold the batch and all that was computed of it.
        traceback.clear_frames(error.__traceback__)
        free_memory(context.device)
        of_gpu = isinstance(error, torch.OutOfMemoryError)
        raise BatchTooLarge(_advice(network, training, images, context), of_gpu=of_gpu) from error


def halved(step: Step, index: int) -> str:
    """What the user is told when a step trains in halves."""
    training = step_training(step)
    batch = "" if training is None else f" of {training.batch_size} images"
    return (
        f"step {index} ({step.kind}): a batch{batch} did not fit into the GPU's memory, so each was computed in two "
        "halves and their gradients were added up. Updates and learning rates are those of whole batches, but batch "
        "norms average over half of one, and a loss that compares images does so within it; lower "
        "`training.batch_size` to have it otherwise"
    )


def _advice(network: Network, training: Training, images: int, context: StepContext) -> str:
    part = -(-training.largest_batch(images) // (context.accumulation * context.ranks.size))
    memory = footprint(network.module, network.description.input_shape)
    # Where the activations may be in bf16, more would fit: this many do in any case.
    image = 0 if memory is None else memory.training_bytes // (2 if training.precision == "bf16" else 1)
    fitting = fitting_batch(part, _room(network, training, context.device), image) * context.ranks.size
    if fitting == 0:
        return (
            f"not even one image fits beside the network, whatever its `training.batch_size` (now "
            f"{training.batch_size}): use a smaller model, or a machine with more memory"
        )
    return f"lower its `training.batch_size` from {training.batch_size} to {fitting}, or use a machine with more memory"


def _room(network: Network, training: Training, device: torch.device) -> int | None:
    """Memory of the GPU for a batch, once weights, gradients and moments are there; None where nothing limits it."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    weights = sum(parameter.nbytes for parameter in network.module.parameters())
    mine = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + mine - weights * (1 + moments(training) + (training.ema is not None))
