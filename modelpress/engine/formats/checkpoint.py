"""The state dict in what a training script saved, told by the names that the network's own state dict has.

Scripts keep it under some key beside an optimizer and an epoch, wrappers put a prefix before every name, and averaged
(EMA) copies lie next to it. What is taken is decided by one rule, for all of them:

1. Candidates are the dicts of named tensors in the file, at the top or under at most `MOST_NESTED` keys.
2. A candidate fits when every name of the network is in it, as it is or after one prefix that is the same for all.
   Where none fits as it is, the parts that wrappers put inside names (`features.module.0.weight`) are taken out first.
3. Of those that fit, averaged copies are taken only where there is nothing else: what is compressed is what
   `model.load_state_dict(checkpoint["model"])` would have given.
4. If several are left, the one under a usual key is taken; if that does not decide, the file is refused.

Whatever is left aside for it is said in the notes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelpress.spec.failure import InvalidModel

# Where scripts keep the state dict: PyTorch's tutorials and timm, torchvision's references, and what else is common.
USUAL_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "model_state",
    "params",
    "module",
    "checkpoint",
)
MOST_NESTED = 3
# DataParallel and AveragedModel, torch.compile, FSDP, activation checkpointing.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_AVERAGED = re.compile(r"(?:^|[._])(?:ema|swa|avg|averaged?)(?:[._]|$)", re.IGNORECASE)
_MOST_OBSCURE = 2
_COUNT = "n_averaged"  # torch.optim.swa_utils.AveragedModel keeps it beside the weights
_TRACKED = ".num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """Tensors by the network's names, where the file has them, and what was left aside in sentences."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    place: str  # keys to the dict, with dots between; empty for the file itself
    prefix: str
    names: Mapping[str, str]  # the file's names by what they are without what wrappers put into them
    state: Mapping[str, Tensor]

    @property
    def averaged(self) -> bool:
        return _COUNT in self.state or _AVERAGED.search(f"{self.place}.{self.prefix}") is not None

    def __str__(self) -> str:
        return f"`{'.'.join(part for part in (self.place, self.prefix.rstrip('.')) if part)}`"


def state_dicts(content: Any) -> dict[str, dict[str, Tensor]]:
    """The dicts of named tensors in what a file holds, by their place: keys with dots between.

    One that lies in several places is one, under the place that says most plainly what it is.
    """
    places: dict[int, list[str]] = {}
    found: dict[int, dict[str, Tensor]] = {}
    # Looked into once, and again under a plainer place: a few dicts that hold each other many times would be billions
    # of places.
    expanded: dict[int, int] = {}
    level: list[tuple[str, Any]] = [("", content)]
    for depth in range(MOST_NESTED + 1):
        below: list[tuple[str, Any]] = []
        for place, inside in level:
            if not isinstance(inside, Mapping) or not inside:
                continue
            if id(inside) in found or all(
                isinstance(key, str) and isinstance(value, Tensor) for key, value in inside.items()
            ):
                found.setdefault(id(inside), dict(inside))
                places.setdefault(id(inside), []).append(place)
            elif depth < MOST_NESTED and _obscurity(place) < expanded.get(id(inside), _MOST_OBSCURE + 1):
                expanded[id(inside)] = _obscurity(place)
                prefix = f"{place}." if place else ""
                below += [(f"{prefix}{key}", value) for key, value in inside.items() if isinstance(key, str)]
        level = below
    return {min(places[held], key=_obscurity): state for held, state in found.items()}


def _obscurity(place: str) -> int:
    """How little a place says of what lies there: 0 for one of the usual ones."""
    if set(place.split(".")) <= {"", *USUAL_KEYS}:
        return 0
    return 1 if _AVERAGED.search(f"{place}.") is None else _MOST_OBSCURE


def choose(found: Mapping[str, Mapping[str, Tensor]], wanted: Collection[str]) -> Weights:
    """The weights of a network whose state dict has the names `wanted`, by the rule above.

    Where nothing fits, what comes nearest, so that what is missing can be named. Raises InvalidModel where several
    fit, and nothing decides between them.
    """
    required = [name for name in wanted if not name.endswith(_TRACKED)]
    fits = [fit for place, state in found.items() for fit in _fits(place, state, required)]
    if not fits:
        return Weights(_nearest(found, wanted))
    fit = _decided(fits)
    tensors = {
        name.removeprefix(fit.prefix): fit.state[key] for name, key in fit.names.items() if name.startswith(fit.prefix)
    }
    for name in wanted:
        # Files of PyTorch before 0.4.1 have none, and torch.nn.BatchNorm counts from zero then.
        if name.endswith(_TRACKED) and name not in tensors:
            tensors[name] = torch.tensor(0)
    return Weights(tensors, tuple(_notes(fit, fits)))


def _fits(place: str, state: Mapping[str, Tensor], required: Sequence[str]) -> list[_Fit]:
    if not required:
        return []
    for names in _spellings(state):
        prefixes = [name.removesuffix(required[0]) for name in names if _ends_with(name, required[0])]
        fits = [prefix for prefix in prefixes if all(prefix + name in names for name in required)]
        if fits:
            return [_Fit(place, prefix, names, state) for prefix in fits]
    return []


def _spellings(state: Mapping[str, Tensor]) -> Iterator[dict[str, str]]:
    """The file's names by themselves, then by what they are without the parts that wrappers put in."""
    yield {name: name for name in state}
    bare = {".".join(part for part in name.split(".") if part not in _WRAPPERS): name for name in state}
    if len(bare) == len(state):
        yield bare


def _ends_with(name: str, ending: str) -> bool:
    return name == ending or name.endswith(f".{ending}")


def _decided(fits: Sequence[_Fit]) -> _Fit:
    candidates = [fit for fit in fits if not fit.averaged] or list(fits)
    if len(candidates) > 1:
        candidates = [fit for fit in candidates if _obscurity(fit.place) == 0] or candidates
    if len(candidates) > 1:
        raise InvalidModel(
            f"the file has weights for the whole network more than once, under {', '.join(map(str, candidates[:12]))}; "
            "save the state dict that you mean alone, and upload that"
        )
    return candidates[0]


def _notes(taken: _Fit, fits: Sequence[_Fit]) -> Iterator[str]:
    where = f"the weights under {taken}" if taken.place or taken.prefix else "the weights at the top of the file"
    if taken.averaged:
        yield f"{where} were taken, an averaged (EMA) copy, as the file has no others"
    left = [fit for fit in fits if fit is not taken]
    for fit in left:
        kind = "the averaged (EMA) copy" if fit.averaged else "the weights"
        yield f"{where} were taken; {kind} under {fit} beside them can be uploaded alone instead"
    others = [
        name
        for name in taken.names
        if name != _COUNT and not any(name.startswith(fit.prefix) for fit in (taken, *left) if fit.state is taken.state)
    ]
    if others:
        more = f" and {len(others) - 12} more" if len(others) > 12 else ""
        yield (
            f"tensors that are not the network's were left aside: {', '.join(name[:200] for name in others[:12])}{more}"
        )


def _nearest(found: Mapping[str, Mapping[str, Tensor]], wanted: Collection[str]) -> dict[str, Tensor]:
    """The state dict that shares most names with the network, after the prefix under which it does."""
    known = set(wanted)
    deepest = max((name.count(".") for name in known), default=0) + 1
    best: tuple[int, dict[str, Tensor]] | None = None
    for _, state in sorted(found.items(), key=lambda item: _usual(item[0])):
        for names in _spellings(state):
            shared = Counter(
                name.removesuffix(rest) for name in names for rest in _endings(name, deepest) if rest in known
            )
            prefix, count = shared.most_common(1)[0] if shared else ("", 0)
            if best is None or count > best[0]:
                best = count, {name.removeprefix(prefix): state[key] for name, key in names.items()}
    return {} if best is None else best[1]


def _endings(name: str, most_parts: int) -> Iterator[str]:
    parts = name.rsplit(".", most_parts)[-most_parts:]
    return (".".join(parts[start:]) for start in range(len(parts)))


def _usual(place: str) -> int:
    first = place.partition(".")[0]
    return USUAL_KEYS.index(first) if first in USUAL_KEYS else len(USUAL_KEYS)
