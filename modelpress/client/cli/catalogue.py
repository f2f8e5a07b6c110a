"""`modelpress methods`, `architectures`: what the service offers."""

from __future__ import annotations

from modelpress.client.cli import options, screen
from modelpress.client.client import Client


def methods(url: options.Url = None, as_json: options.Json = False) -> None:
    """List the compression methods; --json gives the JSON Schema of each one's step."""
    with Client(url) as client:
        found = client.methods()
    if as_json:
        screen.answer_json(found)
        return
    rows = [(method.kind, method.summary, "needs data" if method.needs_data else "", method.source) for method in found]
    screen.answer_table(("kind", "what it does", "data", "source"), rows)


def architectures(url: options.Url = None, as_json: options.Json = False) -> None:
    """List the architectures that a model or a student can have."""
    with Client(url) as client:
        found = client.architectures()
    if as_json:
        screen.answer_json(found)
        return
    rows = [
        (
            entry.name,
            entry.summary,
            ", ".join(f"{name}={value}" for name, value in entry.arguments.items()),
            " x ".join(map(str, entry.input_shape)),
        )
        for entry in found
    ]
    screen.answer_table(("name", "what it is", "arguments", "input"), rows)
