"""Groups put to the test: without some of its channels a network must give what it gives with their weights at zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modelpress.engine.graphs.network import weights_of_operators
from modelpress.engine.measure import evaluating
from modelpress.engine.network import weighted_layers
from modelpress.engine.prune_channels.groups import OUTPUTS, UNFIT, Group, together, trace_groups
from modelpress.engine.prune_channels.narrow import Removal, edit_of, kept, narrow_layers, remove, zeroed
from modelpress.engine.prune_channels.outline import outline

_DIFFERENT = "without its channels the network does not give what it gives with their weights at zero"
_READ = "an operator reads the weight of a layer that its channels run through"
# Of the largest output of a layer: far above what sums in another order differ by, far below what a wrong channel does.
_TOLERANCE = 1e-3
# Pixels, of images to try on. Where channels go does not depend on the size of an image, and the time does; networks
# that are made for one size get that.
_SIDE = 32


def find_groups(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list[Group], dict[str, str]]:
    """Groups that can be pruned, and the weighted layers whose outputs cannot, with the reason.

    Each group was tried. Raises IncompatibleSpec when the network cannot be traced.
    """
    groups, reasons = trace_groups(module, input_shape)
    read = weights_of_operators(module)
    failed = {group.root: _READ for group in groups if any(f"{name}.weight" in read for name, _, _ in group.members)}
    failed |= _Trial(module, input_shape).failures([group for group in groups if group.root not in failed])
    weighted = weighted_layers(module)
    for group in groups:
        if group.root in failed:
            for maker in group.makers:
                if maker in weighted:
                    reasons.setdefault(maker, failed[group.root])
    return [group for group in groups if group.root not in failed], reasons


class _Trial:
    """Takes one to three channels out of each of several groups at once, and compares with their weights at zero.

    What each weighted layer gives is compared, not the network's outputs alone: in a narrow network those may hardly
    depend on its first layers once channels are gone.
    """

    def __init__(self, module: nn.Module, input_shape: tuple[int, int, int]) -> None:
        self._module = module
        self._input_shape = input_shape
        channels, height, width = input_shape
        self._images = _images((channels, min(height, _SIDE), min(width, _SIDE)))

    def failures(self, groups: Sequence[Group]) -> dict[str, str]:
        """Roots of the groups that cannot be pruned, with the reason; those that are left can be, all together."""
        if not groups or self._misfit(groups) is None:
            return {}
        failed = self._alone(groups)
        left = [group for group in groups if group.root not in failed]
        if self._misfit(left) is not None:
            # Two that can be pruned, but not both: whichever comes first stays.
            fit: list[Group] = []
            for group in left:
                reason = self._misfit([*fit, group])
                if reason is None:
                    fit.append(group)
                else:
                    failed[group.root] = reason
        return failed

    def _alone(self, groups: Sequence[Group]) -> dict[str, str]:
        """Those of some groups that do not fit together which cannot be pruned without the others either."""
        if len(groups) == 1:
            reason = self._misfit(groups)
            return {} if reason is None else {groups[0].root: reason}
        failed: dict[str, str] = {}
        half = len(groups) // 2
        for some in (groups[:half], groups[half:]):
            if len(some) == 1 or self._misfit(some) is not None:
                failed |= self._alone(some)
        return failed

    @torch.no_grad()
    def _misfit(self, groups: Sequence[Group]) -> str | None:
        """Why these groups cannot be pruned together, found by pruning a little of each; None when they can."""
        some = {group.root: _some_of(group, place) for place, group in enumerate(groups)}
        removals = together(groups, some)
        try:
            zeros = zeroed(self._module, removals)
            small = outline(self._module)
            narrow_layers(small, edit_of(self._module, removals))
            left = remove(self._module, removals)
        except (IndexError, ValueError):  # a layer has no such channels, or none are left of it
            return UNFIT
        expected, wanted = self._whole(zeros, removals)
        try:
            outputs, given = self._run(small, left, removals)
        except Exception:  # noqa: BLE001  # shapes that do not fit
            return UNFIT
        if outputs.shape != expected.shape:
            return OUTPUTS
        for name, calls in wanted.items():
            layer = self._module.get_submodule(name)
            stay = kept(layer, removals[name])[1]
            dimension = -1 if isinstance(layer, nn.Linear) else 1
            if len(calls) != len(given[name]):
                return _DIFFERENT
            for one, other in zip(given[name], calls, strict=True):
                whole = other if len(stay) == other.shape[dimension] else other.index_select(dimension, stay)
                if not _alike(one, whole):
                    return _DIFFERENT
        return None if _alike(outputs, expected) else _DIFFERENT

    def _whole(
        self, zeros: Mapping[str, Tensor], removals: Mapping[str, Removal]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """What the whole network gives with weights at zero; on images of its own size if it takes no others."""
        try:
            return self._run(self._module, zeros, removals)
        except Exception:  # a network's code may ask anything of sizes
            if self._images.shape[1:] == self._input_shape:
                raise
            self._images = _images(self._input_shape)
            return self._run(self._module, zeros, removals)

    def _run(
        self, structure: nn.Module, tensors: Mapping[str, Tensor], removals: Mapping[str, Removal]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """With these tensors for its own: the outputs, and what each weighted layer that loses something gave."""
        weighted = weighted_layers(structure)
        calls: dict[str, list[Tensor]] = {name: [] for name in removals if name in weighted}

        def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            return lambda _layer, _inputs, output: calls[name].append(output)

        hooks = [weighted[name].register_forward_hook(keep(name)) for name in calls]
        own = {**dict(self._module.named_parameters()), **dict(self._module.named_buffers())}
        try:
            with evaluating(structure):
                return functional_call(structure, {**own, **tensors}, (self._images,)), calls
        finally:
            for hook in hooks:
                hook.remove()


def _some_of(group: Group, place: int) -> list[int]:
    """One to three channels, mostly others and another number for groups at other places among those that are tried.

    Two that hang together, and were taken for independent, would fit each other if they lost the same.
    """
    if group.channels == 2:
        return [0]
    number = 1 + place % min(3, group.channels - 2)
    return sorted((place + each * (group.channels // number)) % group.channels for each in range(number))


def _images(shape: tuple[int, int, int]) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale, difference = (torch.stack(tensor.aminmax()).abs().max() for tensor in (other, one - other))
    return bool(difference <= _TOLERANCE * scale)
