"""The list of timm's networks, written into the spec: `python -m tests.support.timm_networks`, then `make format`."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from pathlib import Path

from modelpress.engine.architectures import timm

MODULE = Path(__file__).parents[2] / "modelpress/spec/timm_networks.py"

_HEAD = '''"""The networks of timm by their names, as the pinned timm lists them, with what each is made for by default.

Written by `python -m tests.support.timm_networks`; a test holds it equal to what timm says of itself.
"""

# Height and width of the input, number of outputs: 0 for a network that gives features unless `num_classes` is given.
TIMM_NETWORKS: dict[tuple[int, int, int], str] = {
'''


def listed() -> dict[tuple[int, int, int], list[str]]:
    """Names by height, width and classes."""
    found: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name in timm.names():
        facts = timm.facts(name)
        found[(*facts.image_size, facts.num_classes)].append(name)
    return dict(sorted(found.items()))


def module_text() -> str:
    """The whole module."""
    entries = []
    for key, names in listed().items():
        lines = textwrap.wrap(" ".join(names), 90, break_long_words=False, break_on_hyphens=False)
        if len(lines) == 1:
            entries.append(f'    {key}: "{lines[0]}",\n')
            continue
        text = "".join(f'        "{line} "\n' for line in lines[:-1])
        entries.append(f'    {key}: (\n{text}        "{lines[-1]}"\n    ),\n')
    return _HEAD + "".join(entries) + "}\n"


if __name__ == "__main__":
    MODULE.write_text(module_text())
