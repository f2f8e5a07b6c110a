"""The training loop against what a user writes by hand: torchvision's transforms and a DataLoader around a plain loop.

The usual one draws PIL images through RandomCrop, RandomHorizontalFlip, ToTensor and Normalize in as many worker
processes as there are cores, and trains in fp32 as torch lays its tensors out. Both augment alike, with the same
optimiser and batches, in turns; images per second, medians. What each part of the two takes alone is measured too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import median

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import modelpress.engine.architectures.torchvision  # noqa: F401 - declares what `import torchvision` needs
from benchmarks.result import Figure, arguments, publish
from benchmarks.training import BATCH, PREPROCESSING, WARM_UP, Stopwatch, random_data, run_bare, run_loop
from modelpress.engine.architectures.registry import build
from modelpress.engine.arithmetic import Arithmetic
from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.cores import available_cores
from modelpress.spec.training import Augmentation

from torchvision import transforms  # isort: skip - behind the declarations

NETWORK = "resnet20_cifar"
USUAL = Arithmetic("fp32", channels_last=False)


class Pictures(Dataset[tuple[Tensor, int]]):
    """PIL images in memory, changed by torchvision one by one, as `torchvision.datasets.CIFAR10` gives them."""

    def __init__(self, data: ImageData) -> None:
        self._pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in data.train_images]
        self._labels = data.train_labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(self._pictures[index]), self._labels[index]


def loader(pictures: Pictures, device: torch.device) -> DataLoader[tuple[Tensor, Tensor]]:
    """The DataLoader that a user makes of them."""
    workers = available_cores()
    return DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, pin_memory=device.type == "cuda")


def run_usual(pictures: Pictures, device: torch.device) -> float:
    """Images per second of the loop written by hand."""
    torch.manual_seed(0)
    module: nn.Module = build(ArchitectureRef(architecture=NETWORK)).to(device).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = loader(pictures, device)
    watch = Stopwatch(device)
    for step, (images, labels) in enumerate(batches, start=1):
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        optimizer.zero_grad()
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        watch(step, len(batches))
    return watch.images_per_second


def prepare_alone(batches: Iterable[tuple[Tensor, Tensor]], steps: int, device: torch.device) -> float:
    """Images per second of making batches that nobody trains on."""
    begin = 0.0
    for step, (images, _) in enumerate(batches, start=1):
        images.to(device)
        if step == WARM_UP:
            begin = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (steps - WARM_UP) * BATCH / (time.perf_counter() - begin)


def own_batches(data: ImageData, device: torch.device) -> Batches:
    """The loop's own batches."""
    return Batches(
        data.train_images,
        data.train_labels,
        PREPROCESSING,
        Augmentation(horizontal_flip=True, crop_padding=4),
        batch_size=BATCH,
        generator=torch.Generator().manual_seed(0),
        device=device,
    )


def main() -> None:
    """Measure, write, print."""
    parser = arguments("data_loader", __doc__ or "")
    parser.add_argument("--steps", type=int, default=200, help="steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    data = random_data(options.steps)
    pictures = Pictures(data)
    speeds: dict[str, list[float]] = {}
    for turn in range(options.rounds):
        own, arithmetic = run_loop(NETWORK, data, device)
        measured = {
            "own loop": own,
            "usual loop": run_usual(pictures, device),
            "own batches alone": prepare_alone(own_batches(data, device).epoch(), options.steps, device),
            "usual batches alone": prepare_alone(loader(pictures, device), options.steps, device),
            "own arithmetic alone": run_bare(NETWORK, options.steps, arithmetic, device),
            "usual arithmetic alone": run_bare(NETWORK, options.steps, USUAL, device),
        }
        for name, speed in measured.items():
            speeds.setdefault(name, []).append(speed)
        told = ", ".join(f"{name} {speed:.0f}" for name, speed in measured.items())
        print(f"round {turn + 1} ({arithmetic.precision}): {told} images/s", flush=True)
    ratios = tuple(own / usual for own, usual in zip(speeds["own loop"], speeds["usual loop"], strict=True))
    baseline = {f"{name.replace(' ', '_')}_images_per_second": median(taken) for name, taken in speeds.items()}
    figures = [
        Figure(
            f"{NETWORK}: loop / DataLoader loop",
            median(ratios),
            at_least=10.0 if device.type == "cuda" else 3.0,
            samples=ratios,
            baseline=baseline,
        ),
        *(Figure(name, median(taken), unit="images/s", samples=tuple(taken)) for name, taken in speeds.items()),
    ]
    conditions: dict[str, object] = {
        "batch": BATCH,
        "images": "random pixels, 3 x 32 x 32",
        "rounds": options.rounds,
        "steps": options.steps,
        "workers": available_cores(),
        "precision": arithmetic.precision,
        "channels_last": arithmetic.channels_last,
    }
    publish(options.output, "Training loop against a loop around a DataLoader", conditions, figures, device.type)


if __name__ == "__main__":
    main()
