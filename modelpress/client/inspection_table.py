"""What an inspection found in a model, as tables: layers by type, each layer, and what methods would make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue
from rich.table import Table
from rich.text import Text

from modelpress.spec.figures import NOT_MEASURED, in_bytes, in_counts
from modelpress.spec.inspection import Estimate, ModelInspection

# Names of layers that are left alone for one reason; the rest are counted.
_MOST_NAMES = 2


def types_table(inspection: ModelInspection) -> Table:
    """A line for each type of layer, and one for the whole network."""
    table = _table("Layers by type", "type", "number", "parameters", "MACs")
    for figures in inspection.layer_types:
        table.add_row(figures.type, str(figures.layers), in_counts(figures.parameters), in_counts(figures.macs))
    table.add_section()
    layers = sum(figures.layers for figures in inspection.layer_types)
    table.add_row("all", str(layers), in_counts(inspection.parameters), in_counts(inspection.macs))
    return table


def layers_table(inspection: ModelInspection) -> Table:
    """A line for each layer that steps can treat."""
    table = _table("Layers", "name", "type", "weight", "parameters", "MACs", "full rank")
    for layer in inspection.layers:
        table.add_row(
            Text(layer.name),
            layer.type,
            " x ".join(map(str, layer.weight_shape)),
            in_counts(layer.parameters),
            NOT_MEASURED if layer.macs is None else in_counts(layer.macs),
            NOT_MEASURED if layer.full_rank is None else str(layer.full_rank),
        )
    return table


def estimates_table(inspection: ModelInspection) -> Table:
    """A line for what each estimated recipe would make of the file, with the number of layers that it leaves alone."""
    table = _table("Estimated compact file, before any training", "steps", "stored bytes", "of fp32", "left alone")
    for estimate in inspection.estimates:
        size, share = estimate.stored_bytes, estimate.share
        table.add_row(
            Text(steps_text(estimate)),
            NOT_MEASURED if size is None else in_bytes(size),
            NOT_MEASURED if share is None else f"{100 * share:.3g}%",
            NOT_MEASURED if size is None else str(sum(len(left.layers) for left in estimate.left_alone)),
        )
    return table


def reasons_table(inspection: ModelInspection) -> Table:
    """Why recipes are not estimated, and why they leave layers alone; what several have in common once."""
    table = _table("Left alone", "steps", "layers", "reason")
    told: set[tuple[str, str]] = set()
    for estimate in inspection.estimates:
        found = [(left.reason, _names(left.layers)) for left in estimate.left_alone]
        if estimate.misfit is not None:
            found.append((estimate.misfit, "all"))
        for reason, names in found:
            if (reason, names) not in told:
                told.add((reason, names))
                table.add_row(Text(steps_text(estimate)), Text(names), Text(reason))
    return table


def steps_text(estimate: Estimate) -> str:
    """Steps in a row: `prune(sparsity=0.5) + quantize(bits=8)`."""
    return " + ".join(map(step_text, estimate.steps))


def step_text(step: Mapping[str, JsonValue]) -> str:
    """`prune_channels(target=channels, removed=0.5)`: a step in a line, without its defaults."""
    return f"{step.get('kind')}({', '.join(_fields(step))})"


def _fields(fields: Mapping[str, JsonValue]) -> Iterable[str]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield f"{name}={value.get('kind')}"
            yield from _fields(value)
        elif name != "kind":
            yield f"{name}={value}"


def _names(layers: Sequence[str]) -> str:
    more = len(layers) - _MOST_NAMES
    return ", ".join(layers[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        counted = heading in ("number", "parameters", "MACs", "full rank", "stored bytes", "of fp32", "left alone")
        table.add_column(heading, justify="right" if counted else "left", no_wrap=counted)
    return table
