"""ModelPress: make neural networks smaller and faster.

The package itself stays light: importing it, the spec or the client never loads torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from torch import nn

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | os.PathLike[str], device: str = "cpu") -> nn.Module:
    """Turn a downloaded artifact (compact container or safetensors) into an `nn.Module`, in evaluation mode.

    Needs the extra `engine` (`pip install "modelpress[engine]"`). Nothing in the file is executed: both formats
    are data. Raises `modelpress.spec.failure.InvalidModel` when the file is not one of ours or is damaged.
    """
    # Imported here so that `import modelpress` stays free of torch.
    from modelpress.engine.formats.load import load as load_artifact

    return load_artifact(path, device=device)
