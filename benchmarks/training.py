"""The training loop against a bare loop of forward, backward and step over tensors that are ready.

Both in the same precision and memory layout, on the same network, in turns; images per second, medians. The loop also
draws, crops, mirrors and normalises its batches, sums losses and watches for divergence.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.result import Figure, arguments, publish
from modelpress.engine.architectures.registry import build
from modelpress.engine.arithmetic import Arithmetic, lay_out
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.distill.hinton import LabelLoss
from modelpress.engine.training import train
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation, Training

NETWORKS = ("vgg19_bn_cifar", "resnet20_cifar")
BATCH = 128
WARM_UP = 3  # steps at the beginning that are not timed
PREPROCESSING = Preprocessing(mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))


class Stopwatch:
    """Images per second between the end of the warm-up and the last step."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begin = self._end = 0.0
        self._steps = 0

    def __call__(self, step: int, steps: int) -> None:
        if step in (WARM_UP, steps):
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            self._begin, self._end = self._end, time.perf_counter()
            self._steps = steps - WARM_UP

    @property
    def images_per_second(self) -> float:
        return self._steps * BATCH / (self._end - self._begin)


def random_data(steps: int) -> ImageData:
    """Images of random pixels: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (steps * BATCH, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (steps * BATCH,), generator=generator)
    return ImageData(images, labels, images[:10], labels[:10], tuple("0123456789"), PREPROCESSING)


def run_loop(name: str, data: ImageData, device: torch.device) -> tuple[float, Arithmetic]:
    """Images per second of the training loop, and the arithmetic that it chose."""
    watch = Stopwatch(device)
    training = Training(
        epochs=1, batch_size=BATCH, augmentation=Augmentation(horizontal_flip=True, crop_padding=4), learning_rate=0.01
    )
    torch.manual_seed(0)
    summary = train(
        build(ArchitectureRef(architecture=name)),
        data,
        PREPROCESSING,
        training,
        loss=LabelLoss(0.0),
        seed=0,
        device=device,
        after_step=watch,
        on_progress=lambda _progress: None,
    )
    return watch.images_per_second, Arithmetic(summary.precision, summary.channels_last)


def run_bare(name: str, steps: int, arithmetic: Arithmetic, device: torch.device) -> float:
    """Images per second of a loop that does nothing but forward, backward and step."""
    torch.manual_seed(0)
    module: nn.Module = build(ArchitectureRef(architecture=name)).to(device).train()
    lay_out(module, arithmetic.memory_format)
    ready = [
        (
            torch.randn(BATCH, 3, 32, 32, device=device).contiguous(memory_format=arithmetic.memory_format),
            torch.randint(10, (BATCH,), device=device),
        )
        for _ in range(8)
    ]
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    watch = Stopwatch(device)
    for step in range(1, steps + 1):
        images, labels = ready[step % len(ready)]
        with arithmetic.autocast(device):
            loss = F.cross_entropy(module(images), labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        watch(step, steps)
    return watch.images_per_second


def main() -> None:
    """Measure, write, print."""
    parser = arguments("training", __doc__ or "")
    parser.add_argument("--steps", type=int, nargs=2, default=(63, 200), help="steps a round, for each network")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    figures = []
    conditions: dict[str, object] = {"batch": BATCH, "images": "random pixels, 3 x 32 x 32", "rounds": options.rounds}
    for name, steps in zip(NETWORKS, options.steps, strict=True):
        data = random_data(steps)
        loops, bares = [], []
        for turn in range(options.rounds):
            # The loop chooses its arithmetic by a trial; the bare loop takes the same.
            speed, arithmetic = run_loop(name, data, device)
            loops.append(speed)
            bares.append(run_bare(name, steps, arithmetic, device))
            conditions[name] = {
                "precision": arithmetic.precision,
                "channels_last": arithmetic.channels_last,
                "steps": steps,
            }
            print(f"{name} round {turn + 1}: loop {speed:.0f}, bare {bares[-1]:.0f} images/s", flush=True)
        ratios = tuple(loop / bare for loop, bare in zip(loops, bares, strict=True))
        figures.append(
            Figure(
                f"{name}: loop / bare",
                median(ratios),
                at_least=0.95,
                samples=ratios,
                baseline={"loop_images_per_second": median(loops), "bare_images_per_second": median(bares)},
            )
        )
    publish(options.output, "Training loop against a bare loop", conditions, figures, device.type)


if __name__ == "__main__":
    main()
