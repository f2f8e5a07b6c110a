"""docker-compose.yml as data, with its variables filled in: what the tests run the images' commands from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
EXAMPLE_ENV = ROOT / ".env.example"

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")


def read_services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services by name. Raises KeyError for a variable that has neither a value nor a default."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        given = variables.get(found["name"], "")
        if given:
            return given
        if found["kind"] == "-":
            return found["rest"]
        raise KeyError(found["name"])

    def filled(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: filled(item) for key, item in node.items()}
        if isinstance(node, list):
            return [filled(item) for item in node]
        return _VARIABLE.sub(value, node) if isinstance(node, str) else node

    services: dict[str, Any] = filled(yaml.safe_load(COMPOSE_FILE.read_text())["services"])
    return services


def read_variables() -> dict[str, bool]:
    """Names of the variables that the file uses, and whether each must be given."""
    text = "\n".join(line for line in COMPOSE_FILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    found = [match for match in _VARIABLE.finditer(text) if match["name"]]
    return {match["name"]: match["kind"] != "-" for match in found}


def read_env(path: Path) -> dict[str, str]:
    """An environment file: `NAME=value` lines, comments left out."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)
