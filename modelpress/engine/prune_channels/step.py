"""The step `prune_channels`: the least important channels leave the network, and its layers become smaller."""

from __future__ import annotations

import torch
from pydantic import Field

from modelpress.engine.layer_change import layer_change
from modelpress.engine.network import Network, layer_types, weighted_layers
from modelpress.engine.prune_channels.candidates import Candidates
from modelpress.engine.prune_channels.choice import ranked
from modelpress.engine.prune_channels.narrow import edit_between
from modelpress.engine.prune_channels.rounds import in_all, rounds_of, within
from modelpress.engine.prune_channels.target import channels_for
from modelpress.engine.prune_channels.treatable import treatable
from modelpress.engine.recovery import recover, training_data
from modelpress.engine.step import StepContext, StepResult
from modelpress.spec.check import select_layers
from modelpress.spec.config import Config
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.report import SkippedLayer, TrainingSummary
from modelpress.spec.steps import PruneChannels


class _Narrowed(Config):
    """What the rounds so far have done, the training of the latest apart."""

    round: int = Field(default=-1, description="The latest, from 0.")
    sizes: dict[str, int] = Field(default={}, description="Channels of each group before the step, by its root.")
    skipped: tuple[SkippedLayer, ...] = ()
    summaries: tuple[TrainingSummary, ...] = Field(default=(), description="Of the trainings before the latest.")


def prune_channels(network: Network, step: PruneChannels, context: StepContext) -> StepResult:
    """Take out the least important channels, no more than reach the target, in as many rounds as the step has.

    Masks and grids of narrowed weights are narrowed with them. Raises IncompatibleSpec when no layer matches, when the
    target cannot be reached, when data is needed and there is none, or when a network that is to be timed cannot be
    exported; and Diverged.
    """
    if step.training is not None:
        training_data(context)
    try:
        chosen = select_layers(layer_types(weighted_layers(network.module)), step.layers)
    except ValueError as error:
        raise IncompatibleSpec(str(error)) from error
    # A target that is measured may be reached with other channels the next time.
    current, so_far = context.checkpoints.interrupted(_Narrowed) or (network, _Narrowed())
    summaries, sizes, skipped = list(so_far.summaries), so_far.sizes, so_far.skipped
    for number, this in enumerate(rounds_of(step)):
        if number < so_far.round:
            continue
        if number > so_far.round:
            generator = torch.Generator().manual_seed((context.seed + number) % 2**32)
            found = treatable(current, step, context, chosen, generator)
            if number == 0:
                sizes = {group.root: group.channels for group in found.groups}
                skipped = tuple(
                    SkippedLayer(name=name, reason=found.reasons[name]) for name in chosen if name in found.reasons
                )
            order = ranked(found.scores, step, sizes)
            candidates = Candidates(current, found.groups, order, step.round_to)
            current = candidates.network(channels_for(step.target, this.share, network, sizes, candidates))
        if this.training is not None:
            facts = _Narrowed(round=number, sizes=sizes, skipped=skipped, summaries=tuple(summaries))
            context.checkpoints.begin_training(current, facts)
            summaries.append(recover(current, this.training, within(context, this, summaries)))
    edit = edit_between(network.module, current.module)
    current.description = network.description.edited(edit)
    return StepResult(
        current,
        layers=tuple(
            layer_change(one.layer, network.module.get_submodule(one.layer), current.module.get_submodule(one.layer))
            for one in edit.layers
        ),
        skipped=skipped,
        training=in_all(summaries),
    )
