"""The GPUs that torch sees here, for a worker that must not load torch itself: `python -m modelpress.engine.gpus`.

Prints their memory in bytes as a JSON list. torch is asked, and not the driver: an installation of torch without CUDA
computes on the processor whatever GPUs the machine has.
"""

from __future__ import annotations

import json
import sys

import torch


def gpu_memory_bytes() -> list[int]:
    """Memory of each GPU, bytes; none where torch sees none."""
    if not torch.cuda.is_available():
        return []
    return [int(torch.cuda.get_device_properties(index).total_memory) for index in range(torch.cuda.device_count())]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(gpu_memory_bytes()))
