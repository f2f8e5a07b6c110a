"""What a job will need of memory and time, estimated from its recipe and the inspections alone.

Memory is a lower bound, as jobs are refused for it: what is counted certainly has to be held at the same moment, and
what is not certain (copies, a library's workspace, the size of a student that is only named) counts as nothing.
`benchmarks/estimates.py` holds it against real jobs. Time is work over a rate: see `db.queries.rates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import Field

from modelpress.spec.config import Resource
from modelpress.spec.inspection import DatasetInspection, ModelInspection
from modelpress.spec.job import Recipe
from modelpress.spec.needs import Device, Least, Needs
from modelpress.spec.steps import Distill, Factorize, PruneChannels, Step, step_training
from modelpress.spec.student import Current, Thinner, Uploaded
from modelpress.spec.training import Recovery, Training

ENGINE_BYTES = 300 << 20
"""Of the engine's process while it trains: Python, torch and what it has loaded of ONNX."""

FRESH_BYTES = 160 << 20
"""Of the fresh process that the engine has beside itself while files are measured. With the engine, 579 to 602 MiB were
measured of a job on a network of 400,000 weights."""

FIXED_SECONDS = 20.0
"""Of every job: processes that start, exports, latencies."""
STEP_SECONDS = 1.5
"""Of every step: its measurement."""

DEFAULT_RATES: dict[Device, float] = {"cpu": 2e10, "cuda": 5e12}
"""Multiply-accumulates a second, of one core or of a GPU, where nothing is known: orders of magnitude."""

_FP32 = 4
# Images of a batch when a network is measured, and the pixels at which there are fewer: as modelpress.engine.measure.
_MEASURED_IMAGES = 256
_MEASURED_PIXELS = 2**20
# A forward pass, and the gradients of activations and of weights.
_TRAINING_PASSES = 3
# Channels are chosen by importance, so those that go may make more of the activations than of what was asked for.
_UNEVEN = 0.5


class StepEstimate(Resource):
    """What one step needs, at least."""

    step: int = Field(description="Index of the step in the recipe, from 0.")
    kind: str = Field(description="Kind of the step.")
    batch_size: int | None = Field(description="Images of a batch of its training; null without one.")
    fixed_bytes: int = Field(
        description="Memory beside the batch on the device that trains: weights, momentum, their average, a teacher."
    )
    image_bytes: int = Field(description="Memory for each image of a batch: what the backward pass needs of it.")
    macs: int = Field(description="Multiply-accumulates: of its training and of the measurement behind it.")

    @property
    def device_bytes(self) -> int:
        """Memory of the whole batch and what is beside it."""
        return self.fixed_bytes + self.image_bytes * (self.batch_size or 0)

    @property
    def halved_bytes(self) -> int:
        """Memory of half a batch and what is beside it: a training that does not fit a GPU is tried again in halves."""
        return self.fixed_bytes + self.image_bytes * math.ceil((self.batch_size or 0) / 2)


class Duration(Resource):
    """How long a job is expected to run."""

    device: Device = Field(description="On a worker that computes on this.")
    seconds: float = Field(description="Seconds, all steps and measurements.")
    rough: bool = Field(
        description="True where no job has ended yet by which the speed of such workers is known: right by the order "
        "of magnitude only."
    )


class JobEstimate(Resource):
    """What a job needs at least, and how long it is expected to run, as estimated when it was accepted."""

    cpu_memory_bytes: int = Field(description="Main memory on a worker that computes on the processor, bytes.")
    process_bytes: int = Field(
        description="Main memory that the process takes beside a training, bytes: libraries, images, the original."
    )
    cuda_memory_bytes: int = Field(description="Main memory on a worker that computes on GPUs, bytes.")
    gpu_memory_bytes: int = Field(
        description="Memory of all GPUs of such a worker together, bytes; half of the largest batch, as a training "
        "that does not fit is tried again in halves."
    )
    step: int | None = Field(description="The step that needs most memory, from 0; null where none trains.")
    steps: tuple[StepEstimate, ...] = Field(description="Each step of the recipe.")
    macs: int = Field(description="Multiply-accumulates of the whole job.")
    durations: tuple[Duration, ...] = Field(default=(), description="By what it may be computed on.")

    def memory_bytes(self, device: Device) -> int:
        """Main memory on a worker that computes on `device`."""
        return self.cuda_memory_bytes if device == "cuda" else self.cpu_memory_bytes

    def seconds(self, device: Device) -> float | None:
        """Expected seconds on a worker that computes on `device`; None where that was not estimated."""
        return next((duration.seconds for duration in self.durations if duration.device == device), None)

    @property
    def fixed_seconds(self) -> float:
        """Seconds that are spent whatever the speed of the machine."""
        return FIXED_SECONDS + STEP_SECONDS * len(self.steps)

    def least(self, needs: Needs) -> Least:
        """What a worker must have by this estimate. A need that its owner named takes its place."""
        named = needs.memory_bytes > 0
        return Least(
            cpu_memory_bytes=0 if named else self.cpu_memory_bytes,
            cuda_memory_bytes=0 if named else self.cuda_memory_bytes,
            gpu_memory_bytes=0 if needs.gpu_memory_bytes > 0 else self.gpu_memory_bytes,
        )

    def fitting_batch(self, step: int, memory_bytes: int, device: Device) -> int | None:
        """Most images of a batch with which `step` could fit into so much memory: fewer than it has.

        0 where not even one could; None for a step that does not train or says nothing of its batch. On the CPU it is
        main memory, else that of one GPU.
        """
        of_step = next((each for each in self.steps if each.step == step), None)
        if of_step is None or of_step.batch_size is None:
            return None
        beside = of_step.fixed_bytes
        if device == "cpu":
            beside += self.process_bytes
        return fitting_batch(of_step.batch_size, memory_bytes - beside, of_step.image_bytes)


def fitting_batch(batch_size: int, room_bytes: int | None, image_bytes: int) -> int:
    """Most images for which there is room, at most half of `batch_size`: those did not fit, whatever is reckoned.

    0 where there is room for none. Without a known room (None) or bytes (0) it is half.
    """
    half = batch_size // 2
    if room_bytes is None or image_bytes == 0:
        return half
    return min(half, max(0, room_bytes) // image_bytes)


def moments(training: Training) -> int:
    """What the optimiser remembers of each weight: two numbers for AdamW, one where there is momentum."""
    return 2 if training.optimizer == "adamw" else int(training.momentum > 0)


@dataclass(frozen=True)
class _Network:
    """What is known of the network at one point of the recipe; lower bounds."""

    parameters: float
    macs: float
    forward_bytes: float  # of one image
    training_bytes: float

    @classmethod
    def of(cls, model: ModelInspection) -> _Network | None:
        if model.footprint is None:
            return None
        footprint = model.footprint
        return cls(model.parameters, model.macs, footprint.forward_bytes, footprint.training_bytes)

    def times(self, parameters: float, activations: float, macs: float) -> _Network:
        return _Network(
            self.parameters * parameters,
            self.macs * macs,
            self.forward_bytes * activations,
            self.training_bytes * activations,
        )


def estimate_job(
    recipe: Recipe,
    model: ModelInspection,
    dataset: DatasetInspection | None = None,
    students: Mapping[str, ModelInspection] | None = None,
) -> JobEstimate | None:
    """What the recipe needs; None where an older version inspected a model, which measured too little.

    `students` are the inspections of uploaded students by their ids.
    """
    original = _Network.of(model)
    if original is None:
        return None
    train, heldout = _examples(dataset)
    network: _Network | None = original
    steps = []
    for index, step in enumerate(recipe.steps):
        network = _after(step, network, original, students or {})
        if network is None:
            return None
        steps.append(_step(index, step, network, original, train, heldout))
    images = math.prod(model.input_shape) * (train + heldout)
    beside = ENGINE_BYTES + images + int(original.parameters) * _FP32
    passing = int(original.forward_bytes) * min(heldout, _measured_batch(model))
    largest = max(steps, key=lambda each: each.device_bytes)
    halved = max(each.halved_bytes for each in steps)
    final = network or original
    measured = heldout * (original.macs * 2 + final.macs * 2)  # in memory and from files, PyTorch and ONNX Runtime
    return JobEstimate(
        cpu_memory_bytes=beside + max(largest.device_bytes, FRESH_BYTES + passing),
        process_bytes=beside,
        cuda_memory_bytes=beside + FRESH_BYTES,
        gpu_memory_bytes=max(halved, passing),
        step=largest.step if largest.batch_size is not None and largest.device_bytes >= passing else None,
        steps=tuple(steps),
        macs=int(measured) + sum(each.macs for each in steps),
    )


def training_macs(step: Step, images: int, macs: float, teacher_macs: float) -> float:
    """Multiply-accumulates of a step's training, 0 without one, where the network takes `macs` for an image.

    Three passes of the network an image and epoch (one forward, two backward), and those of the original, each
    `teacher_macs`.
    """
    training = step_training(step)
    if training is None:
        return 0.0
    trained = training.images_of_work(images) * _TRAINING_PASSES * macs
    return trained + taught_images(step, images) * teacher_macs


def taught_images(step: Step, images: int) -> int:
    """About how many images a step's training on so many asks the original: each once, where it comes back and the
    answer is kept."""
    training = step_training(step)
    if training is None or not is_taught(step):
        return 0
    if isinstance(step, Distill):
        if not step.asks_teacher:
            return 0
        if step.compares_layers:
            return training.images_seen(images)
        view = step.teacher_view
    else:
        view = training.teacher_view if isinstance(training, Recovery) else "augmented"
    views = training.augmentation.plain_views if view == "plain" else training.augmentation.views
    seen = training.images_seen(images)
    return seen if views is None else min(seen, views * images)


def is_taught(step: Step) -> bool:
    """True when a step's training asks the original about each image."""
    return isinstance(step, Distill) or getattr(step_training(step), "teacher", None) is not None


def _step(index: int, step: Step, network: _Network, original: _Network, train: int, heldout: int) -> StepEstimate:
    weights = network.parameters * _FP32
    training = step_training(step)
    macs = heldout * network.macs
    if training is None:
        return StepEstimate(
            step=index, kind=step.kind, batch_size=None, fixed_bytes=int(weights), image_bytes=0, macs=int(macs)
        )
    taught = is_taught(step)
    macs += training_macs(step, train, network.macs, original.macs)
    fixed = weights * (1 + moments(training) + (training.ema is not None)) + (
        original.parameters * _FP32 if taught else 0
    )
    # In bf16, which `auto` may choose, activations have half of the bytes.
    image = network.training_bytes * (1.0 if training.precision == "fp32" else 0.5)
    return StepEstimate(
        step=index,
        kind=step.kind,
        batch_size=training.largest_batch(train),
        fixed_bytes=int(fixed),
        image_bytes=int(image),
        macs=int(macs),
    )


def _after(
    step: Step, network: _Network | None, original: _Network, students: Mapping[str, ModelInspection]
) -> _Network | None:
    """The network that a step trains; of a student that is only named, nothing but the work is known."""
    if network is None:
        return None
    if isinstance(step, Distill) and not isinstance(step.student, Current):
        student = step.student
        if isinstance(student, Uploaded):
            return _Network.of(students[student.model]) if student.model in students else None
        if isinstance(student, Thinner):
            return original.times(student.width**2, student.width, student.width**2)
        return replace(original.times(0, 0, 0), macs=original.macs / 2)
    if isinstance(step, PruneChannels):
        kept = 1 - step.target.removed
        if step.target.kind == "channels":
            return network.times(kept**2, kept, kept**2)
        return network.times(kept if step.target.kind == "parameters" else 0, kept * _UNEVEN, kept)
    if isinstance(step, Factorize):
        return network.times(0, 1, 1)
    return network


def _examples(dataset: DatasetInspection | None) -> tuple[int, int]:
    if dataset is None:
        return 0, 0
    if dataset.heldout_examples is None:
        heldout = dataset.train_examples // 10
        return dataset.train_examples - heldout, heldout
    return dataset.train_examples, dataset.heldout_examples


def _measured_batch(model: ModelInspection) -> int:
    _, height, width = model.input_shape
    return max(1, min(_MEASURED_IMAGES, _MEASURED_PIXELS // (height * width)))
