"""Weights that stay on their grids through a training (quantization-aware training).

The weights that the optimiser moves are full-precision ones (*latent*). Before each forward pass the nearest values of
the grid take their place, and after the backward pass they come back: the gradient at the quantized weight moves the
latent one, as if rounding were the identity (the straight-through estimator, Bengio et al. 2013, arXiv 1308.3432).

Grids follow the latent weights by fits, or learn the steps of their channels by the gradient (LSQ, Esser et al. 2019,
arXiv 1902.08153, eq. 3): with u = w / s, d(s round(u)) / ds = round(u) - u, and -Q or Q where u is beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.quantize.codebook import codebook
from modelpress.engine.quantize.grid import MOST_LEVELS, Grid
from modelpress.engine.quantize.uniform import SMALLEST_SCALE, rounded

# Grids follow the latent weights so often during the first part of a training; then the weights settle on fixed ones.
_REFITS = 20
_MOVING_SHARE = 0.75
# Of its first, a learned step is so much at the least: at zero no weight would be left, and the length of its code be
# infinite.
_LEAST_MULTIPLE = 1e-3


class HeldGrids:
    """The grids of one module: weight's name (`features.0.weight`) to the values that it may take."""

    def __init__(self, module: nn.Module, grids: Mapping[str, Grid], learned: Collection[str] = ()) -> None:
        """Steps of the channels of `learned` weights, which are uniform, are learned, those of others fitted."""
        self._module = module
        self._grids = dict(grids)
        self._uniform = {name for name, grid in grids.items() if is_uniform(grid)}
        # Learned is what each step is of its first: an optimiser that moves every number by its rate alone (AdamW)
        # would else move small ones far below zero.
        self._first: dict[str, Tensor] = {}
        self._learned: dict[str, nn.Parameter] = {}
        for name in learned:
            device = module.get_parameter(name).device
            self._first[name] = grids[name].scales.to(device)
            self._learned[name] = nn.Parameter(torch.ones_like(self._first[name]))
            self._grids[name] = Grid(grids[name].levels.to(device), self._first[name])
        self._latent: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Grid:
        """The grid of a weight as it is now."""
        return self._grids[name]

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The steps that are learned, each as a multiple of its first, for the optimiser."""
        return tuple(self._learned.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the quantized weights."""
        return tuple(self._grids)

    @torch.no_grad()
    def quantize(self) -> None:
        """Put the nearest values of the grids in place of the latent weights."""
        for name, grid in self._grids.items():
            weight = self._module.get_parameter(name)
            latent = weight.data
            if name in self._uniform:
                weight.data = rounded(latent, grid)
            else:
                weight.data = torch.empty_like(latent).copy_(grid.nearest(latent))
            self._latent[name] = latent

    @torch.no_grad()
    def restore(self) -> None:
        """Put the latent weights back."""
        for name, latent in self._latent.items():
            self._module.get_parameter(name).data = latent
        self._latent.clear()

    @torch.no_grad()
    def find_gradients(self, step: int, steps: int) -> None:
        """Behind the backward pass of step `step` of `steps`, the latent weights back: the gradients of learned steps.

        They count 1 / sqrt(n Q) of what they are, n the weights of a channel, so that steps move about as fast as
        weights do (LSQ, section 2.2). Of the multiples they are so much larger that gradient descent moves the steps
        as it would move them by themselves. None once the grids are fixed, so that the optimiser leaves them alone.
        """
        for name, multiples in self._learned.items():
            weight = self._module.get_parameter(name)
            if step > self.fixed_from(steps) or weight.grad is None:
                multiples.grad = None
                continue
            grid = self._grids[name]
            units = weight / grid.scales_of(weight)
            most = float(grid.levels[-1])
            moved = torch.where(units.abs() < most, units.round() - units, units.clamp(-most, most))
            multiples.grad = torch.zeros_like(multiples)
            self.add_to_scales(name, (weight.grad * moved).flatten(1).sum(1))

    def add_to_scales(self, name: str, gradient: Tensor) -> None:
        """Add to the gradient of a weight's steps (C,), as it is before it is made to count less; if they move."""
        multiples = self._learned.get(name)
        if multiples is not None and multiples.grad is not None:
            weight, most = self._module.get_parameter(name), float(self._grids[name].levels[-1])
            counted = gradient / math.sqrt(max(1, weight.numel() // len(weight)) * most)
            multiples.grad.add_(counted / self._first[name])

    @torch.no_grad()
    def follow(self, step: int, steps: int) -> None:
        """After step `step` of `steps`: fit the grids anew to the latent weights, where that is due."""
        for name, multiples in self._learned.items():
            multiples.clamp_(min=_LEAST_MULTIPLE)
            self._take(name)
        if step % interval(steps) == 0 and step <= self.fixed_from(steps):
            for name, grid in self._grids.items():
                if name not in self._learned:
                    self._grids[name] = refit(grid, self._module.get_parameter(name))

    def _take(self, name: str) -> None:
        """The steps as they were learned so far."""
        scales = (self._first[name] * self._learned[name].detach()).clamp_(min=SMALLEST_SCALE)
        self._grids[name] = Grid(self._grids[name].levels, scales)

    def snapshot(self) -> Snapshot:
        """The grids; of learned steps the first ones and the multiples, from which the same follow to the last bit."""
        levels = {f"levels/{name}": grid.levels for name, grid in self._grids.items()}
        scales = {f"scales/{name}": self._learned.get(name, grid.scales).detach() for name, grid in self._grids.items()}
        return Snapshot(levels | scales | {f"first/{name}": first for name, first in self._first.items()})

    def resume(self, snapshot: Snapshot) -> None:
        """Take the grids of a module like this one, for the same weights. Raises UnusableCheckpoint."""
        for name, grid in self._grids.items():
            device = self._module.get_parameter(name).device
            # A codebook has lost those of its levels that have met; scales stay as many as there were.
            levels = snapshot.tensors.get(f"levels/{name}")
            if levels is None or not (levels.ndim == 1 and 2 <= len(levels) <= MOST_LEVELS):
                raise UnusableCheckpoint(f"it has no levels for {name!r}")
            scales = snapshot.like(f"scales/{name}", grid.scales).to(device)
            if name in self._learned:
                # As fitted there: another processor's sums may round otherwise.
                self._first[name] = snapshot.like(f"first/{name}", self._first[name]).to(device)
                self._learned[name].data.copy_(scales)  # the optimiser has this one
                self._take(name)
                continue
            self._grids[name] = Grid(levels.to(device, torch.float32, copy=True), scales)

    def fixed_from(self, steps: int) -> int:
        """The step of `steps` from which on the grids stay as they are."""
        between = interval(steps)
        return int(_MOVING_SHARE * steps) // between * between if self._grids else 0

    @torch.no_grad()
    def settle(self) -> dict[str, Grid]:
        """Move the weights onto their grids for good, and return the grids, on the CPU."""
        for name, grid in self._grids.items():
            weight = self._module.get_parameter(name)
            weight.copy_(grid.nearest(weight))
        return {name: Grid(grid.levels.cpu(), grid.scales.detach().cpu()) for name, grid in self._grids.items()}


def refit(grid: Grid, weight: Tensor) -> Grid:
    """The grid with the values that suit the weight (C, ...) best, each weight's level staying as it is.

    Steps of a channel: s = sum(w q) / sum(q^2), which makes sum((w - s q)^2) least. Values of a codebook: the means of
    their weights (a round of k-means). Zero stays a level, and what no weight takes stays as it was;
    values that have met become one.
    """
    indices = grid.indices(weight)
    levels = grid.levels.to(weight.device)
    if is_uniform(grid):
        integers = levels[indices].reshape(len(weight), -1)
        rows = weight.detach().reshape(len(weight), -1)
        squares = integers.square().sum(1)
        fitted = (rows * integers).sum(1) / squares.clamp(min=1)
        scales = grid.scales.to(weight.device)
        # A channel all of whose weights are zero says nothing of its step, and no step is below zero.
        usable = (squares > 0) & (fitted > torch.finfo(torch.float32).tiny)
        return Grid(levels, torch.where(usable, fitted, scales))
    flat = indices.flatten()
    counts = torch.bincount(flat, minlength=len(levels))
    sums = torch.zeros(len(levels), dtype=torch.float64, device=weight.device)
    sums.index_add_(0, flat, weight.detach().flatten().double())
    means = (sums / counts.clamp(min=1)).float()
    moved = torch.where((counts > 0) & (levels != 0), means, levels)
    return codebook(moved.double().cpu().numpy())


def interval(steps: int) -> int:
    """Steps between two fits in a training of `steps`."""
    return max(1, steps // _REFITS)


def is_uniform(grid: Grid) -> bool:
    """True for even steps, whose levels are the whole numbers from -Q to Q; a codebook's are so only by chance."""
    most = len(grid.levels) // 2
    whole = torch.arange(-most, len(grid.levels) - most)
    return len(grid.levels) % 2 == 1 and bool((grid.levels.cpu() == whole).all())
