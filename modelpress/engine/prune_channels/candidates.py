"""The networks that a step chooses from: one for each number of channels that could go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from modelpress.engine.network import Network
from modelpress.engine.prune_channels.choice import rounded
from modelpress.engine.prune_channels.groups import Group, together
from modelpress.engine.prune_channels.narrow import Removal, cut, edit_of, kept, narrow_layers
from modelpress.engine.prune_channels.outline import narrowed, outline
from modelpress.engine.quantize.grid import Grid


class Candidates:
    """A network without the first so many channels of a ranking, as far as `round_to` lets them go."""

    def __init__(
        self, network: Network, groups: Sequence[Group], order: Sequence[tuple[str, int]], round_to: int
    ) -> None:
        self.current = network  # nothing gone yet
        self._groups, self._order, self._round_to = groups, order, round_to
        self._sizes = {group.root: group.channels for group in groups}

    @property
    def most(self) -> int:
        """Channels in the ranking."""
        return len(self._order)

    def gone(self, count: int) -> dict[str, list[int]]:
        """Channels that go, by their group's root."""
        by_group: dict[str, list[int]] = {}
        for root, channel in self._order[:count]:
            by_group.setdefault(root, []).append(channel)
        return rounded(by_group, self._sizes, self._round_to)

    def removals(self, count: int) -> dict[str, Removal]:
        """What leaves each layer."""
        return together(self._groups, self.gone(count))

    def outline(self, count: int) -> nn.Module:
        """The structure of the network without them, for counting: no weights."""
        small = outline(self.current.module)
        removals = self.removals(count)
        if removals:
            narrow_layers(small, edit_of(small, removals))
        return small

    def network(self, count: int) -> Network:
        """The network without them, in evaluation mode; masks and grids of narrowed weights are narrowed with them."""
        module, removals = self.current.module, self.removals(count)
        description = self.current.description
        if removals:
            description = description.edited(edit_of(module, removals))
        return Network(
            narrowed(module, removals).eval(),
            description,
            {name: _cut_mask(module, name, mask, removals) for name, mask in self.current.masks.items()},
            {name: _cut_grid(module, name, grid, removals) for name, grid in self.current.grids.items()},
        )


def _cut_mask(module: nn.Module, weight: str, mask: Tensor, removals: Mapping[str, Removal]) -> Tensor:
    name = weight.rpartition(".")[0]
    if name not in removals:
        return mask
    layer = module.get_submodule(name)
    return cut(mask, layer, *kept(layer, removals[name]))


def _cut_grid(module: nn.Module, weight: str, grid: Grid, removals: Mapping[str, Removal]) -> Grid:
    name = weight.rpartition(".")[0]
    if name not in removals or grid.scales.numel() == 1:
        return grid
    outputs = kept(module.get_submodule(name), removals[name])[1]
    return Grid(grid.levels, grid.scales[outputs.to(grid.scales.device)])
