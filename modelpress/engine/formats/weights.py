"""Weights into modules: every name and every shape must match, and what does not is said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from modelpress.engine.network import weighted_layers
from modelpress.spec.failure import InvalidModel
from modelpress.spec.foreign_model import TRANSFORMERS_NAMES, names_of_transformers

MOST_NAMED = 12


def load_weights(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `module`, in place.

    `source` names in a sentence what the module is ("architecture 'resnet18'"). Raises InvalidModel naming the
    missing and the unexpected keys and the shapes that differ; then nothing was copied.
    """
    check_shapes(module, {name: tuple(tensor.shape) for name, tensor in state.items()}, source)
    # Modules that tell versions of their state apart (MNASNet's) find theirs: the names and shapes are of this one.
    versioned = module.state_dict()
    versioned.update(state)
    module.load_state_dict(versioned, strict=True)


def check_shapes(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Raise InvalidModel unless the names and shapes are those of `module`'s state dict."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    differing = [name for name in wanted if name in shapes and shapes[name] != wanted[name]]
    if not (missing or unexpected or differing):
        return
    parts = []
    if missing:
        parts.append(f"{_counted(missing, 'key')} missing: {_listed(missing)}")
    if unexpected:
        parts.append(f"{_counted(unexpected, 'key')} unexpected: {_listed(unexpected)}")
    if differing:
        lines = [f"{name} (file has {_shape(shapes[name])}, it takes {_shape(wanted[name])})" for name in differing]
        parts.append(f"{_counted(differing, 'shape')} differ: {_listed(lines)}")
    raise InvalidModel(
        f"the file's weights do not match {source}. {'. '.join(parts)}. "
        f"{_advice(module, shapes, missing, unexpected, differing)}"
    )


def _advice(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    missing: Sequence[str],
    unexpected: Sequence[str],
    differing: Sequence[str],
) -> str:
    last = list(weighted_layers(module))[-1:]
    head = [f"{name}.{part}" for name in last for part in ("weight", "bias")]
    if differing and not missing and not unexpected and set(differing) <= set(head):
        outputs = shapes[differing[0]][0] if shapes[differing[0]] else 0
        return f"Only the last layer differs: the file has {outputs} outputs; give the argument num_classes={outputs}."
    if not missing and not differing and all("aux" in name.lower() for name in unexpected):
        return "These belong to auxiliary heads: give the argument aux_logits=true, or leave them out of the file."
    if names_of_transformers(unexpected):
        return TRANSFORMERS_NAMES[0].upper() + TRANSFORMERS_NAMES[1:]
    return "Name the architecture, and its arguments, that these weights were trained with."


def _counted(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(item[:200] for item in items[:MOST_NAMED])
    return shown if len(items) <= MOST_NAMED else f"{shown} and {len(items) - MOST_NAMED} more"


def _shape(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
