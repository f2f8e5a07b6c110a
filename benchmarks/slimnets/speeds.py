"""How fast networks are here: seconds for one image, as a training takes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch

from benchmarks.slimnets.budget import Speed, name_of
from benchmarks.slimnets.runs import Run
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.steps import Distill

IMAGES = 32


def networks(runs: Iterable[Run], original: ArchitectureRef) -> list[ArchitectureRef]:
    """Every network that the runs train, each once."""
    found = {name_of(original): original}
    for run in runs:
        for step in (step for steps in run.candidates.values() for step in steps):
            if isinstance(step, Distill) and isinstance(step.student, ArchitectureRef):
                found.setdefault(name_of(step.student), step.student)
    return list(found.values())


def measured(refs: Iterable[ArchitectureRef], device: torch.device) -> dict[str, Speed]:
    """Speeds by name: the second pass over a batch, in the faster of fp32 and bf16, as trainings choose too."""
    found = {}
    for ref in refs:
        network = build(ref).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(IMAGES, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)

        def forward(network: torch.nn.Module = network, images: torch.Tensor = images) -> None:
            with torch.inference_mode():
                network(images).sum().item()

        def training(network: torch.nn.Module = network, images: torch.Tensor = images) -> None:
            network(images).sum().backward()
            next(network.parameters()).grad.sum().item()  # type: ignore[union-attr]

        fastest = Speed(_seconds(forward, False, device), _seconds(training, False, device))
        # A processor without bf16 is slower by forward passes already, and slower still by backward ones.
        forward_bf16 = _seconds(forward, True, device)
        if forward_bf16 < fastest.forward:
            training_bf16 = _seconds(training, True, device)
            fastest = min(fastest, Speed(forward_bf16, training_bf16), key=lambda speed: speed.training)
        found[name_of(ref)] = fastest
    return found


def _seconds(work: Callable[[], None], cast: bool, device: torch.device) -> float:
    with torch.autocast(device.type, torch.bfloat16, enabled=cast):
        work()
        began = time.perf_counter()
        work()
    return (time.perf_counter() - began) / IMAGES
