"""How large a run of the tables is: which original, how many images, how long."""

from __future__ import annotations

from dataclasses import dataclass

from modelpress.spec.architecture import ArchitectureRef


@dataclass(frozen=True)
class Scale:
    """One size. Figures of different scales are never put into one table."""

    name: str
    summary: str
    train_images: int | None  # None for all; else so many, the same share of each class
    tuning_images: int  # of the training images, held out for choices
    test_images: int | None
    width: float  # of the original VGG-19
    # Besides 4, which is made of the others. Our recipes need a GPU, or days; two cores have theirs in table 7.
    tables: tuple[int, ...]
    trains_original: bool  # by the service, from nothing; else it is the one in the data folder
    original_epochs: int  # that the original is, or was, trained for
    # What all runs may take unless `--budget` says; None for the declared epochs in full, 0 for one epoch each.
    minutes: float | None
    marked_only: bool = False  # only the runs that are marked as short
    candidates: int | None = None  # of a choice, the first so many; None for all
    seeds: int | None = None  # likewise
    ablates: bool = True

    @property
    def original(self) -> ArchitectureRef:
        """The network that everything is compared with."""
        arguments = {"num_classes": 10} | ({} if self.width == 1 else {"width": self.width})
        return ArchitectureRef(architecture="vgg19_bn_cifar", arguments=arguments)

    @property
    def published(self) -> bool:
        """True where figures are worth keeping in the repository."""
        return self.name in ("full", "gpu")


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "full",
            "the given VGG-19 and all images, epochs by `--budget`",
            train_images=None,
            tuning_images=5_000,
            test_images=None,
            width=1.0,
            tables=(1, 2, 3, 5, 7),
            trains_original=False,
            original_epochs=28,
            minutes=720.0,
        ),
        Scale(
            "gpu",
            "a VGG-19 trained for 200 epochs first, and the declared epochs in full",
            train_images=None,
            tuning_images=5_000,
            test_images=None,
            width=1.0,
            tables=(1, 2, 3, 5, 6),
            trains_original=True,
            original_epochs=200,
            minutes=None,
        ),
        Scale(
            "short",
            "a few runs of each table on a twentieth of the images: some ten minutes on two cores",
            train_images=2_500,
            tuning_images=250,
            test_images=500,
            width=1.0,
            tables=(1, 2, 3, 5, 6),
            trains_original=False,
            original_epochs=28,
            minutes=10.0,
            marked_only=True,
            candidates=1,
            seeds=1,
            ablates=False,
        ),
        Scale(
            "tiny",
            "a quarter of VGG-19's width, trained for an epoch, and a few hundred images: shows that everything runs",
            train_images=400,
            tuning_images=100,
            test_images=100,
            width=0.25,
            tables=(1, 2, 3, 5, 6),
            trains_original=True,
            original_epochs=1,
            minutes=0.0,
            candidates=2,
            seeds=2,
        ),
    )
}
