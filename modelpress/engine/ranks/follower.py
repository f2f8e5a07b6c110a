"""A follower's side: it computes its part of each batch, and decides nothing."""

from __future__ import annotations

import logging
from itertools import chain, count, repeat

import torch

from modelpress.engine.accumulation import accumulate
from modelpress.engine.arithmetic import lay_out
from modelpress.engine.data.resizing import resize
from modelpress.engine.exhaustion import free_memory, naming
from modelpress.engine.ranks.assignment import Assignment
from modelpress.engine.ranks.exchange import Exchange
from modelpress.engine.ranks.group import Group
from modelpress.engine.ranks.share import Share
from modelpress.engine.training import draw_batches, reproducible

LOG = logging.getLogger(__name__)


def follow(group: Group) -> None:
    """Train along with the leader until it says that the job is done. Raises RankLost, OutOfMemory."""
    # A network of torchvision comes as a pickle, for which it has to be imported, in the way that this module knows.
    # Here, as the leader has no need of it.
    from modelpress.engine.architectures import torchvision  # noqa: F401

    while (assignment := group.receive()) is not None:
        advice = (
            f"lower `training.batch_size` (now {assignment.training.batch_size}), or use a machine with more memory"
        )
        with naming(f"process {group.rank} of {group.size} trained along", advice=advice):
            _train_along(assignment, group)
        free_memory(group.device)


def _train_along(assignment: Assignment, group: Group) -> None:
    number, channels, height, width = group.receive()
    images = torch.empty((number, height, width, channels), dtype=torch.uint8)
    labels = torch.empty(number, dtype=torch.int64)
    group.broadcast(images)
    group.broadcast(labels)
    torch.set_num_threads(assignment.threads)
    module, loss, arithmetic = assignment.module, assignment.loss, assignment.arithmetic
    beside = list(loss.parameters())
    with reproducible(assignment.seed, group.device):
        module.train()
        lay_out(module, arithmetic.memory_format)
        batches = draw_batches(
            images.permute(0, 3, 1, 2),
            labels,
            assignment.preprocessing,
            assignment.training,
            classes=assignment.classes,
            seed=assignment.seed,
            device=group.device,
            share=Share(group.rank, group.size, assignment.least),
        )
        batches.memory_format = arithmetic.memory_format
        batches.resume(assignment.place)
        exchange = Exchange(group, module, beside)
        steps = assignment.training.epochs * len(batches)
        every = chain.from_iterable(batches.epoch() for _ in repeat(None))
        for step, (part, answers) in zip(count(assignment.step), every, strict=False):
            if not exchange.receive_weights():
                return
            for parameter in (*module.parameters(), *beside):
                parameter.grad = None
            figures, ran_out = None, False
            # Dropout shall be another one on every rank, and needs no memory: what is drawn follows from the step.
            torch.manual_seed((assignment.seed + group.rank + step * group.size) % 2**32)
            if len(answers) > 0:
                part = resize(part, assignment.training, step, steps)
                try:
                    figures = accumulate(
                        module, part, answers, loss, arithmetic, batches.origin, assignment.least, batches.labelled
                    )
                except torch.OutOfMemoryError:
                    ran_out = True  # the leader ends this training, and may begin it anew in smaller parts
                    LOG.warning("process %d of %d ran out of memory", group.rank, group.size)
            exchange.give_gradients(figures, len(answers) / batches.drawn, ran_out=ran_out)
