"""The paper's tables as data: what is done to the original, and the paper's figure for it. A new run is one entry.

Epochs are those of a run in full; `budget` scales them to the time there is, all of a table alike but for runs that are
declared to get more, or to have the epochs that they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.slimnets import paper
from benchmarks.slimnets.paper import Published
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.job import ArtifactKind
from modelpress.spec.steps import AnyRank, AnyStep, Cubic, Distill, Factorize, OneShot, Prune
from modelpress.spec.steps.factorize import RankBudget, RankEnergy, RankEvbmf, RankPerLayer
from modelpress.spec.training import Augmentation, Recovery, Training

Steps = tuple[AnyStep, ...]
FILES = (ArtifactKind.COMPACT, ArtifactKind.ONNX)
TABLES = {
    0: "The original",
    1: "Gradual against one-shot weight pruning",
    2: "Low-rank VGG-19",
    3: "Students without and with distillation",
    4: "Each method, side by side",
    5: "Distilled, then pruned",
    6: "Our recipes, and what each step adds",
    7: "What two cores reach in at most 90 minutes",
}


@dataclass(frozen=True)
class Run:
    """One line of a table.

    With several candidates each is first carried out on the `tuning` data, whose held-out images are training images,
    and the chosen one alone sees the test images.
    """

    name: str
    table: int
    title: str
    candidates: Mapping[str, Steps]
    paper: Published | None = None
    seeds: tuple[int, ...] = (0,)
    artifacts: tuple[ArtifactKind, ...] = FILES
    # Whatever the budget: as many as are declared here, or as the original was trained for.
    epochs: Literal["scaled", "declared", "original"] = "scaled"
    # Where they are scaled, how many times those of the table's other runs: more where one costs little.
    epoch_weight: float = 1.0
    # Of the learning rate, where they leave less than one epoch.
    part_rate: float = 1.0
    short: bool = False  # part of the short version
    ablated: bool = False  # the chosen candidate is also carried out without each of its parts
    # Of several candidates whose accuracy is at least this share of the best one's, the one that is least by `least`.
    least: Literal["bytes", "latency"] = "bytes"
    accuracy_of_best: float = field(default=0.99)

    @property
    def steps(self) -> Steps:
        """Of a run without a choice."""
        (steps,) = self.candidates.values()
        return steps


def single(
    name: str, table: int, title: str, *steps: AnyStep, published: Published | None = None, **more: object
) -> Run:
    """A run without a choice."""
    return Run(name, table, title, {name: steps}, paper=published, **more)  # type: ignore[arg-type]


AUGMENTATION = Augmentation(horizontal_flip=True, crop_padding=4)
# As SlimNets prunes and factorizes: the labels alone, no teacher.
RETRAINING = Recovery(epochs=100, learning_rate=0.02, schedule="cosine", gradient_clip=5.0, augmentation=AUGMENTATION)
# The students have no batch norm: AdamW brings them further than SGD in few epochs.
STUDENT_TRAINING = Training(
    epochs=200,
    optimizer="adamw",
    learning_rate=1e-3,
    schedule="one_cycle",
    gradient_clip=5.0,
    augmentation=AUGMENTATION,
)


def gradual(sparsity: float) -> Prune:
    """Zhu and Gupta's schedule over the first three quarters of the training."""
    return Prune(sparsity=sparsity, schedule=Cubic(begin=0.0, end=0.75), training=RETRAINING)


def one_shot(sparsity: float) -> Prune:
    """The same training, behind a cut at its beginning."""
    return Prune(sparsity=sparsity, schedule=OneShot(), training=RETRAINING)


def low_rank(rank: AnyRank, *, norms: bool) -> Factorize:
    """Pairs of k x 1 and 1 x k convolutions (Tai et al.), trained."""
    return Factorize(rank=rank, scheme="vertical_horizontal", batch_norm=norms, training=RETRAINING)


def student(architecture: str, *, taught: bool, **arguments: float) -> Distill:
    """A network by its name, under the original or by the labels alone.

    The original answers once for each image and its mirror image: on two cores most of the time would be its own.
    """
    ref = ArchitectureRef(architecture=architecture, arguments=dict(arguments))
    return Distill(student=ref, alpha=0.9 if taught else 0.0, teacher_view="plain", training=STUDENT_TRAINING)


def convolutions(depth_plan: str = "64 64 M 128 128 M 256*4 M 512*4 M 512*4") -> tuple[str, ...]:
    """Names of VGG-19's convolutions: each with batch norm and ReLU behind it takes three places, a pooling one."""
    names, place = [], 0
    for item in depth_plan.split():
        if item == "M":
            place += 1
            continue
        _, _, times = item.partition("*")
        for _ in range(int(times or 1)):
            names.append(f"features.{place}")
            place += 3
    return tuple(names)


def paper_ranks(width: float = 1.0) -> RankPerLayer:
    """The paper's ranks, for an original with that share of the channels."""
    ranks = (max(1, round(rank * width)) for rank in paper.RANKS)
    return RankPerLayer(values=dict(zip(convolutions(), ranks, strict=True)))


def original(epochs: int, architecture: ArchitectureRef) -> Run:
    """The original, trained from nothing by the labels alone, where there is a GPU for it."""
    training = Training(
        epochs=epochs, learning_rate=0.05, schedule="one_cycle", gradient_clip=5.0, augmentation=AUGMENTATION
    )
    step = Distill(student=architecture, alpha=0.0, training=training)
    files = (ArtifactKind.SAFETENSORS, ArtifactKind.ONNX)
    return single("original", 0, "VGG-19", step, artifacts=files, epochs="original", short=True)


STUDENT_TITLES = {
    "snn_1k": "SNN-1k",
    "snn_10k": "SNN-10k",
    "cnn_1k": "CNN-1k",
    "cnn_10k": "CNN-10k",
    "alexnet_cifar": "AlexNet",
    "nin_cifar": "NIN",
}
# An epoch of NIN takes as long as ten of AlexNet, and as twenty to seventy of the others.
STUDENT_EPOCH_WEIGHTS = {"nin_cifar": 1.0, "alexnet_cifar": 3.0}
OTHER_STUDENTS_WEIGHT = 5.0
SPARSITIES = (0.4, 0.75, 0.875, 0.95, 0.98)
# A network that has learned its images loses more by a hundred steps at a high rate than by half its weights.
PRUNING_PART_RATE = 0.25
DISTILLED_SPARSITIES = (0.4, 0.75, 0.875)
# Behind a distillation the original goes on teaching; NIN has no batch norm.
PRUNED_STUDENT_TRAINING = Recovery(
    epochs=60, optimizer="adamw", learning_rate=3e-4, gradient_clip=5.0, augmentation=AUGMENTATION, teacher="original"
)


def _pruning() -> list[Run]:
    runs = []
    for sparsity in SPARSITIES:
        share, short = f"{100 * sparsity:g}%", sparsity == 0.75
        runs += [
            single(
                f"gradual-{share[:-1]}",
                1,
                f"{share} of weights gone, gradually",
                gradual(sparsity),
                published=paper.GRADUAL.get(sparsity),
                part_rate=PRUNING_PART_RATE,
                short=short,
            ),
            single(
                f"one-shot-{share[:-1]}",
                1,
                f"{share} of weights gone, at once",
                one_shot(sparsity),
                published=paper.ONE_SHOT.get(sparsity),
                part_rate=PRUNING_PART_RATE,
                short=short,
            ),
        ]
    return runs


def _low_rank(width: float) -> list[Run]:
    ours: dict[str, AnyRank] = {
        "energy 0.8": RankEnergy(value=0.8),
        "energy 0.9": RankEnergy(value=0.9),
        "a quarter of the parameters": RankBudget(parameters=0.25),
        "EVBMF": RankEvbmf(),
    }
    ranks = paper_ranks(width)
    return [
        single(
            "low-rank-paper",
            2,
            "the paper's ranks, batch norm between",
            low_rank(ranks, norms=True),
            published=paper.LOW_RANK,
            short=True,
        ),
        single("low-rank-paper-plain", 2, "the paper's ranks, no batch norm between", low_rank(ranks, norms=False)),
        *(
            Run(
                f"low-rank-ours{'' if norms else '-plain'}",
                2,
                f"ranks chosen by us, {'' if norms else 'no '}batch norm between",
                {name: (low_rank(rank, norms=norms),) for name, rank in ours.items()},
            )
            for norms in (True, False)
        ),
    ]


def _students() -> list[Run]:
    return [
        single(
            f"{name.removesuffix('_cifar').replace('_', '-')}-{'distilled' if taught else 'labels'}",
            3,
            f"{title}, {'distilled' if taught else 'by the labels alone'}",
            student(name, taught=taught),
            published=(paper.DISTILLED if taught else paper.STUDENTS)[name],
            epoch_weight=STUDENT_EPOCH_WEIGHTS.get(name, OTHER_STUDENTS_WEIGHT),
            short=name == "nin_cifar",
        )
        for name, title in STUDENT_TITLES.items()
        for taught in (False, True)
    ]


def _distilled_then_pruned() -> list[Run]:
    return [
        single(
            f"nin-pruned-{100 * sparsity:g}",
            5,
            f"NIN distilled, then {100 * sparsity:g}% of weights gone",
            student("nin_cifar", taught=True),
            Prune(sparsity=sparsity, schedule=Cubic(begin=0.0, end=0.75), training=PRUNED_STUDENT_TRAINING),
            published=paper.DISTILLED_THEN_PRUNED[sparsity],
            short=sparsity == 0.75,
        )
        for sparsity in DISTILLED_SPARSITIES
    ]


def paper_runs(width: float = 1.0) -> list[Run]:
    """Tables 1, 2, 3 and 5, for an original of that width."""
    return [*_pruning(), *_low_rank(width), *_students(), *_distilled_then_pruned()]


SIDE_BY_SIDE = {
    "weight pruning": "gradual-87.5",
    "low rank": "low-rank-ours",
    "distillation": "nin-distilled",
    "distillation and weight pruning": "nin-pruned-75",
    "our smallest": "smallest",
    "our fastest": "fastest",
    "ours, nothing lost": "lossless",
    "ours, two cores": "two-cores",
    "ours, two cores, faster": "two-cores-fast",
    "ours, two cores, least lost": "two-cores-lossless",
    "ours, two cores, for accuracy": "two-cores-wide",
    "ours, two cores, for accuracy, longer": "two-cores-longer",
}
"""Table 4, by method: declared before anything is measured, not picked by figures on the test images."""
