"""Networks that are in no registry, and `.pt2` files of them as users write them."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the activations are functions, and one layer is called twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.first(x)))
        return self.act(self.norm(self.first(y)) + x)


class Photographer(nn.Module):
    """A classifier of 8 x 8 images with one channel."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.body = nn.Sequential(Residual(8), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.GELU())
        self.scale = nn.Parameter(torch.full((16, 1, 1), 0.5))
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(F.relu(self.stem(x))) * self.scale
        return self.head(x.mean((2, 3)))


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights drawn by the seed and statistics that are not those of a new batch norm."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0.0 if "running_var" in name else 0.5))
    return module.eval()


def export(module: nn.Module, path: Path, *inputs: Tensor, dynamic: bool = True) -> Path:
    """Write `module` as a user does, for batches of any size or for that of `inputs` alone."""
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in inputs) if dynamic else None
    with warnings.catch_warnings():
        # Recurrent layers note their weights in a list, which is none of the module's own state.
        warnings.filterwarnings("ignore", message="The tensor attributes self", category=UserWarning)
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
    return path


def rewritten(
    path: Path,
    change: Callable[[str, bytes], bytes | None] | None = None,
    *,
    more: dict[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """The zip with its members changed: `change` gets each inner name and content; None leaves the member out."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", compression) as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            content: bytes | None = old.read(name)
            if change is not None and content is not None:
                content = change(name.partition("/")[2], content)
            if content is not None:
                new.writestr(name, content)
        for name, content in (more or {}).items():
            new.writestr(f"{root}/{name}", content)
    path.write_bytes(out.getvalue())
    return path


def with_program(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with its graph changed."""

    def changed(name: str, content: bytes) -> bytes:
        if not name.startswith("models/"):
            return content
        document = json.loads(content)
        change(document)
        return json.dumps(document).encode()

    return rewritten(path, changed)


def with_weights(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with the list of its weights changed."""

    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("model_weights_config.json"):
            return content
        document = json.loads(content)
        change(document["config"])
        return json.dumps(document).encode()

    return rewritten(path, changed)
