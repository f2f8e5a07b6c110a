"""Our recipes (table 6) as data, and their ablations.

A compact file is positions of the weights that are left, their values, the values' tables or steps, and what does
not shrink: norms, biases, names and the graph. A thin student attacks all of it, sparsity the number of values and,
beyond a half, positions too; few bits, and training that makes them predictable, attack the values. So each recipe is
a student (or the original), then zeros, then few bits, the original teaching throughout.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.slimnets.runs import AUGMENTATION, FILES, Run, Steps, single
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import ArtifactKind
from modelpress.spec.steps import AnyStep, ChannelTarget, Cubic, Distill, Prune, PruneChannels, Quantize
from modelpress.spec.training import Augmentation, ProgressiveResizing, Recovery, Training

SEEDS = (0, 1, 2)
"""Of the headlines: mean and spread are given."""


def thin_student(architecture: str, width: float = 1.0, *, augmented: bool = True, epochs: int = 200) -> Distill:
    """A small network with that share of its channels.

    Without random changes to the images the teacher's outputs are computed once and kept, and an epoch costs a
    quarter: more of them for the same time.
    """
    ref = ArchitectureRef(architecture=architecture, arguments={} if width == 1 else {"width": width})
    training = Training(
        epochs=epochs,
        learning_rate=0.1,
        schedule="one_cycle",
        gradient_clip=5.0,
        augmentation=AUGMENTATION if augmented else Augmentation(),
    )
    return Distill(student=ref, training=training)


def taught(epochs: int, learning_rate: float, *, augmented: bool = True) -> Recovery:
    """Training behind a step, under the original."""
    return Recovery(
        epochs=epochs,
        learning_rate=learning_rate,
        gradient_clip=5.0,
        augmentation=AUGMENTATION if augmented else Augmentation(),
        teacher="original",
    )


def sparse(sparsity: float, epochs: int = 80, *, augmented: bool = True) -> Prune:
    """Weights gone gradually, those compared over all layers."""
    schedule = Cubic(begin=0.0, end=0.6)
    return Prune(sparsity=sparsity, schedule=schedule, training=taught(epochs, 0.02, augmented=augmented))


def coded(bits: int, epochs: int = 60, *, augmented: bool = True, rate: float = 0.0) -> Quantize:
    """Few even steps, the network trained on them; with a `rate` the coded length is part of the loss, steps are
    learned, and what is no weight is folded away or rounded."""
    more = {"step_sizes": "learned", "rate": rate, "fold_norms": True, "vectors": "bf16"} if rate else {}
    return Quantize(
        scheme="uniform",
        bits=bits,
        first_and_last_bits=max(bits, 4),
        training=taught(epochs, 0.05 if rate else 0.01, augmented=augmented),
        **more,
    )


def _rated(architecture: str, width: float, bits: int, rate: float) -> Steps:
    return (thin_student(architecture, width), coded(bits, 140, rate=rate))


def _small(architecture: str, width: float, sparsity: float, bits: int, *, augmented: bool = True) -> Steps:
    times = 1 if augmented else 3
    return (
        thin_student(architecture, width, augmented=augmented, epochs=200 * times),
        sparse(sparsity, 80 * times, augmented=augmented),
        coded(bits, 60 * times, augmented=augmented),
    )


def _fast(removed: float) -> Steps:
    target = ChannelTarget(kind="macs", removed=removed)
    return (PruneChannels(target=target, criterion="l2", round_to=8, training=taught(150, 0.02)),)


SMALLEST: Mapping[str, Steps] = {
    "ResNet-20, 80% gone, 3 bits": _small("resnet20_cifar", 1.0, 0.8, 3),
    "ResNet-20, 80% gone, 3 bits, images as they are": _small("resnet20_cifar", 1.0, 0.8, 3, augmented=False),
    "ResNet-20, 4 bits, rate 0.3": _rated("resnet20_cifar", 1.0, 4, 0.3),
    "ResNet-20, 4 bits, rate 1": _rated("resnet20_cifar", 1.0, 4, 1.0),
    "ResNet-20, 90% gone, 4 bits": _small("resnet20_cifar", 1.0, 0.9, 4),
    "ResNet-20 of 3/4 of the channels, 70% gone, 3 bits": _small("resnet20_cifar", 0.75, 0.7, 3),
    "ResNet-20 of half the channels, 50% gone, 4 bits": _small("resnet20_cifar", 0.5, 0.5, 4),
    "ResNet-32 of 3/4 of the channels, 80% gone, 3 bits": _small("resnet32_cifar", 0.75, 0.8, 3),
    "ConvNet-8 of 3/4 of the channels, 4 bits, rate 0.05": _rated("convnet8_cifar", 0.75, 4, 0.05),
    "ConvNet-8 of 3/8 of the channels, 4 bits, rate 0.05": _rated("convnet8_cifar", 0.375, 4, 0.05),
}
FASTEST: Mapping[str, Steps] = {
    "VGG-19, 85% of multiply-accumulates gone": _fast(0.85),
    "VGG-19, 94% of multiply-accumulates gone": _fast(0.94),
    "ResNet-20 of half the channels": (thin_student("resnet20_cifar", 0.5),),
    "ConvNet-8 of half the channels": (thin_student("convnet8_cifar", 0.5),),
}
LOSSLESS: Mapping[str, Steps] = {
    "VGG-19, 90% gone, 4 bits": (sparse(0.9), coded(4)),
    "VGG-19, 95% gone, 4 bits": (sparse(0.95), coded(4)),
    "ConvNet-8, 4 bits, rate 0.02": _rated("convnet8_cifar", 1.0, 4, 0.02),
}

# Of table 7. The teacher's pass over an image takes twice as long as all of the student's training on it: on few cores
# more epochs by the labels bring more. The rate, momentum, decay, smoothing and crops are those of Jordan 2024
# (arXiv 2404.00498), whose network it is, for a quarter of the batch.
TWO_CORES_STUDENT = Distill(
    student=ArchitectureRef(architecture="convnet8_cifar", arguments={"width": 0.75}),
    alpha=0.0,
    training=Training(
        epochs=14,
        batch_size=256,
        learning_rate=0.375,
        momentum=0.85,
        weight_decay=1.3e-3,
        schedule="one_cycle",
        label_smoothing=0.2,
        augmentation=Augmentation(horizontal_flip=True, crop_padding=2),
    ),
)


def _wide_student(epochs: int) -> Steps:
    """Where nothing is to be lost there is room for Jordan's own channels, and for eight bits, which need no training:
    all of the time is the student's. Three epochs in four are paid for, as the first have smaller images."""
    update = {"epochs": epochs, "progressive_resizing": ProgressiveResizing(scale=0.75, until=0.4)}
    student = TWO_CORES_STUDENT.model_copy(
        update={
            "student": ArchitectureRef(architecture="convnet8_cifar"),
            "training": TWO_CORES_STUDENT.training.model_copy(update=update),
        }
    )
    return (student, Quantize(scheme="uniform", bits=8))


# Less than half the multiply-accumulates, for less accuracy.
TWO_CORES_FAST_STUDENT = Distill(
    student=ArchitectureRef(architecture="resnet11_cifar"),
    alpha=0.0,
    training=Training(
        epochs=22,
        learning_rate=0.1,
        schedule="one_cycle",
        label_smoothing=0.1,
        gradient_clip=5.0,
        augmentation=AUGMENTATION,
    ),
)


def _coded_by_the_labels(student: Distill, epochs: int) -> Steps:
    """The student, then few bits, the coded length part of the loss; its labels stay as smooth as they were."""
    training = Recovery(
        epochs=epochs,
        learning_rate=0.05,
        label_smoothing=student.training.label_smoothing,
        gradient_clip=5.0,
        ema=0.999,
        augmentation=AUGMENTATION,
    )
    return (student, coded(4, rate=0.05).model_copy(update={"training": training}))


def _pruned_in_two_epochs(sparsity: float, training: Recovery) -> Steps:
    """The original itself: an epoch of it takes a quarter of the time that there is, so what two epochs put right again
    goes, and no more than twenty times smaller needs, as a weight costs 9 bits or so with its position. Six bits need
    no training."""
    return (
        Prune(sparsity=sparsity, schedule=Cubic(begin=0.0, end=0.6), training=training),
        Quantize(scheme="uniform", bits=6, first_and_last_bits=8),
    )


# By the labels half a point was lost, all of it in the pruning. They say little to a network that knows its training
# images: the original's outputs, at half the rate, hold it where it was.
TWO_CORES_BY_LABELS = _pruned_in_two_epochs(
    0.85, Recovery(epochs=2, learning_rate=0.01, gradient_clip=5.0, augmentation=AUGMENTATION)
)
TWO_CORES_LOSSLESS = _pruned_in_two_epochs(0.82, taught(2, 0.005))


RECIPES = (
    Run("smallest", 6, "smallest", SMALLEST, seeds=SEEDS, short=True, ablated=True),
    Run(
        "fastest",
        6,
        "fastest",
        FASTEST,
        artifacts=(*FILES, ArtifactKind.ONNX_INT8),
        accuracy_of_best=0.98,
        least="latency",
        ablated=True,
    ),
    Run("lossless", 6, "nothing lost", LOSSLESS, accuracy_of_best=0.998, ablated=True),
    Run(
        "two-cores",
        7,
        "ConvNet-8 of 3/4 of the channels, by the labels, 4 bits, rate 0.05",
        {"ConvNet-8, 4 bits, rate 0.05": _coded_by_the_labels(TWO_CORES_STUDENT, 5)},
        seeds=SEEDS,
        artifacts=(*FILES, ArtifactKind.ONNX_INT8),
        epochs="declared",
        ablated=True,
    ),
    Run(
        "two-cores-fast",
        7,
        "ResNet-11 by the labels, 4 bits, rate 0.05",
        {"ResNet-11, 4 bits, rate 0.05": _coded_by_the_labels(TWO_CORES_FAST_STUDENT, 8)},
        artifacts=(*FILES, ArtifactKind.ONNX_INT8),
        epochs="declared",
    ),
    single("two-cores-by-labels", 7, "VGG-19, 85% gone, 6 bits", *TWO_CORES_BY_LABELS, epochs="declared"),
    single(
        "two-cores-lossless",
        7,
        "VGG-19, 82% gone under the original, 6 bits",
        *TWO_CORES_LOSSLESS,
        epochs="declared",
    ),
    single(
        "two-cores-wide",
        7,
        "ConvNet-8 by the labels, 8 bits",
        *_wide_student(15),
        artifacts=(*FILES, ArtifactKind.ONNX_INT8),
        epochs="declared",
    ),
    # Those fifteen take 28 minutes where the processor computes in bf16 (AVX-512). Declared when they had come to
    # 89.07% of the test images: ten short of the original.
    single(
        "two-cores-longer",
        7,
        "ConvNet-8 by the labels for 30 epochs, 8 bits",
        *_wide_student(30),
        artifacts=(*FILES, ArtifactKind.ONNX_INT8),
        epochs="declared",
    ),
)


def ablations(run: Run, chosen: str) -> list[Run]:
    """What shows the worth of each part of a recipe: it without one step, without what follows the first, without the
    rate in the loss, without a teacher, and the student alone, trained on the labels for as long as the original was.
    None of other runs."""
    if not run.ablated:
        return []
    steps = run.candidates[chosen]
    found: dict[str, Run] = {}

    def add(name: str, title: str, left: Steps, **more: str) -> None:
        more = {"epochs": run.epochs, **more}
        # The same steps for as many epochs under two names are one run.
        done = [(steps, run.epochs), *((other.steps, other.epochs) for other in found.values())]
        if left and (left, more["epochs"]) not in done:
            full = f"{run.name}-{name}"
            found[full] = Run(full, run.table, f"{run.title}: {title}", {full: left}, artifacts=run.artifacts, **more)  # type: ignore[arg-type]

    for place, step in enumerate(steps):
        # A student is what the later steps treat.
        if not isinstance(step, Distill):
            add(f"without-{step.kind}", f"without `{step.kind}`", steps[:place] + steps[place + 1 :])
    if isinstance(steps[0], Distill):
        add("student", "the student before the other steps", steps[:1])
    add("without-rate", "without the coded length in the loss", tuple(_unrated(step) for step in steps))
    add("labels", "without a teacher", tuple(_untaught(step) for step in steps))
    if isinstance(steps[0], Distill):
        alone = (_untaught(steps[0]),)
        add("student-labels", "the student uncompressed, by the labels alone", alone, epochs="original")
    return list(found.values())


def _unrated(step: AnyStep) -> AnyStep:
    return step.model_copy(update={"rate": 0.0}) if isinstance(step, Quantize) else step


def _untaught(step: AnyStep) -> AnyStep:
    if isinstance(step, Distill):
        return step.model_copy(update={"alpha": 0.0})
    if isinstance(step.training, Recovery):
        return step.model_copy(update={"training": step.training.model_copy(update={"teacher": None})})
    return step
