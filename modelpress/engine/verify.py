"""Proof that written files are what the report says: a fresh process reloads them with nothing but the file.

parent                                          fresh process (modelpress.engine.reload, by fresh.py)
write_probe: images, and the outputs of   ->    load each file, run the images, compare with the outputs
the network in memory                           hash the weights of each torch file, compare with the parent's
write_heldout: images and labels          ->    accuracy of each file; parameters, MACs, layers, peak memory
verify: starts the process, waits         <-    proofs, measurement, latencies; or a failure
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modelpress.engine.fresh import fresh_processes
from modelpress.engine.measure import evaluating, exact_arithmetic, normalise
from modelpress.engine.network import Network
from modelpress.engine.proof_request import Answer, Request, Verified
from modelpress.spec.failure import CompressionError, Diverged, OutOfMemory, VerificationFailed
from modelpress.spec.network import Preprocessing

PROBE_IMAGES = 16
_PROBE_PIXELS = 2**18  # 16 images up to 128 x 128, 5 of 224 x 224: enough outputs, little memory


def hash_weights(module: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bits of a state dict."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def probe_images(input_shape: tuple[int, int, int], images: Tensor | None, preprocessing: Preprocessing) -> Tensor:
    """Images to compare outputs on, fp32 (n, C, H, W): taken evenly from `images` (uint8), or seeded noise."""
    channels, height, width = input_shape
    count = max(1, min(PROBE_IMAGES, _PROBE_PIXELS // (height * width)))
    if images is None or len(images) == 0:
        return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))
    chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).long()
    return normalise(images[chosen].cpu(), preprocessing)


def write_probe(network: Network, images: Tensor, path: Path) -> None:
    """Keep `images` (fp32, on the CPU) and the outputs of the network (on the CPU) for them, as .npz.

    Raises Diverged when the outputs are not finite numbers.
    """
    images = images.contiguous()  # as it comes back from the file
    with evaluating(network.module), exact_arithmetic(), torch.inference_mode():
        outputs = network.module(images)
    if not bool(torch.isfinite(outputs).all()):
        raise Diverged(
            "the network's outputs are not finite numbers; check the weights for infinities, and lower the learning "
            "rate if a training came before"
        )
    np.savez(path, images=images.numpy(), outputs=outputs.numpy())


def write_heldout(images: Tensor, labels: Tensor, path: Path) -> None:
    """Keep the decoded held-out images (uint8) and labels, so that no fresh process decodes the data set again."""
    np.savez(path, images=images.cpu().numpy(), labels=labels.cpu().numpy())


def verify(request: Request, scratch: Path) -> Verified:
    """Have a fresh process carry out `request`; its files are kept in `scratch`.

    Raises VerificationFailed when a file does not load, does not hold the weights or does not give the outputs,
    Diverged when its outputs are not numbers, OutOfMemory when the process was killed for memory.
    """
    asked, answered = scratch / "request.json", scratch / "answer.json"
    asked.write_text(request.model_dump_json())
    answered.unlink(missing_ok=True)
    sys.stdout.flush()
    code = fresh_processes("modelpress.engine.reload").run([str(asked), str(answered)])
    if not answered.exists():
        if code == -9:
            raise OutOfMemory(
                "the fresh process that reloads the files was killed, most likely because memory ran out; "
                "free memory on this machine, or give the worker more"
            )
        raise VerificationFailed(
            f"the fresh process that reloads the files ended with code {code} and no answer; the log says why"
        )
    answer = Answer.model_validate_json(answered.read_text())
    if answer.failure is not None:
        errors: dict[str, type[CompressionError]] = {e.kind: e for e in (VerificationFailed, Diverged, OutOfMemory)}
        raise errors.get(answer.failure.kind, VerificationFailed)(answer.failure.message)
    if answer.verified is None:
        raise VerificationFailed("the fresh process that reloads the files gave an empty answer; the log says why")
    return answer.verified
