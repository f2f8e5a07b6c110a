"""The settings as docs/settings.md shows them."""

from __future__ import annotations

from pydantic_core import PydanticUndefined

from service.settings import FOREIGN, PREFIX, Settings

_HEAD = f"""# Settings

Every setting is an environment variable, read once when a process starts. A variable that begins with `{PREFIX}` and
is not listed here is refused, so that a misspelt one is never ignored. Others of the project's own are let pass:
{{foreign}}. This page is made by `python -m service.settings > docs/settings.md`.

| variable | default | meaning |
|---|---|---|
"""


def settings_table() -> str:
    """The whole page: a Markdown table of every setting, its default and what it means."""
    rows = []
    for name, field in Settings.model_fields.items():
        # A default that is worked out is told in the description; here it would be this machine's.
        default = "" if field.default is PydanticUndefined else _shown(field.default)
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    foreign = ", ".join(f"`{name}`" for name in sorted(FOREIGN))
    return _HEAD.replace("{foreign}", foreign) + "\n".join(rows) + "\n"


def _shown(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else "" if value in (None, ()) else str(value)
    return f"`{text}`" if text else "empty"
