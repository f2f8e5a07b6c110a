"""The engine itself in the place of the script: it trains a small network, and keeps checkpoints of its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from tests.faults.site import Site
from tests.support.patience import comes_true
from tests.support.work_folder import ARCHITECTURE, WorkFolder

INSPECTION_SECONDS = 300.0


def upload_small_network(site: Site) -> None:
    """A network of four classes and images of patterns, inspected by the service's own inspector."""
    torch.manual_seed(0)
    folder = WorkFolder(site.home / "uploads")
    model = folder.put_model(build(ArchitectureRef.model_validate(ARCHITECTURE)))
    dataset = folder.put_dataset()
    params = {
        "architecture": ARCHITECTURE["architecture"],
        "arguments": json.dumps(ARCHITECTURE["arguments"]),
        "mean": "0.5",
        "std": "0.25",
    }
    site.model = _upload(site, "/v1/models", folder.path / model["path"], params)
    site.dataset = _upload(site, "/v1/datasets", folder.path / dataset["path"], {})


def _upload(site: Site, route: str, path: Path, params: dict[str, str]) -> str:
    client = site.client()
    answer = client.post(route, params=params, content=path.read_bytes()).raise_for_status().json()

    def state() -> str:
        found: str = client.get(f"{route}/{answer['id']}").raise_for_status().json()["state"]
        return found

    assert comes_true(lambda: state() != "inspecting", INSPECTION_SECONDS), "it is never inspected"
    assert state() == "ready", client.get(f"{route}/{answer['id']}").text
    upload_id: str = answer["id"]
    return upload_id
