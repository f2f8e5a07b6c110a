"""Training batches: drawn, changed at random and normalised for a whole batch at once, without per-image Python."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from modelpress.engine.checkpoints.snapshot import Snapshot, UnusableCheckpoint
from modelpress.engine.data.augmentation import Changes, crop_and_mirror, erase, mix
from modelpress.engine.data.labelled import UNLABELLED
from modelpress.engine.data.mixed_labels import class_shares
from modelpress.engine.loss import Origin
from modelpress.engine.ranks.share import WHOLE, Share
from modelpress.spec.config import Config
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation


class _Place(Config):
    taken: int = Field(ge=0, description="Batches of the epoch at work that were given out.")


class Batches:
    """Batches of one data set, epoch after epoch, in an order drawn from `generator`; an epoch has all images, or
    `epoch_images` of them, drawn anew.

    Images are uint8 (N, C, H, W), labels int64 (N,). They are held on the device when they fit there, channels last,
    so that cropping and mirroring copy whole pixels and the batch comes out in channels_last without a transposition.
    `classes`, by default the largest label and one more, is how many shares a label has where images are mixed.

    Of each batch only the `share` of one rank is made. All ranks draw alike from generators in the same state, so that
    their parts together are the batch that one process would have had.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        *,
        batch_size: int,
        epoch_images: int | None = None,
        generator: torch.Generator,
        device: torch.device,
        drop_single: bool = False,
        classes: int | None = None,
        share: Share = WHOLE,
    ) -> None:
        channels, width = images.shape[1], images.shape[3]
        if not len(preprocessing.mean) == len(preprocessing.std) == channels:
            raise IncompatibleSpec(
                f"the preprocessing has {len(preprocessing.mean)} means and "
                f"{len(preprocessing.std)} standard deviations, "
                f"the images have {channels} channels; give one of each per channel with the model"
            )
        home = device if _fits(images, device) else torch.device("cpu")
        self._images = images.permute(0, 2, 3, 1).contiguous().to(home)  # (N, H, W, C)
        self._labels = labels.to(home)
        self._augmentation = augmentation
        self._classes = int(labels.max()) + 1 if classes is None else classes
        self._batch_size = batch_size
        self._generator = generator
        self._device = device
        self._share = share
        self._began = generator.get_state()  # before the epoch at work was drawn
        self._taken = 0  # batches of it that were given out
        self._skipped = 0  # batches of the next epoch that another one gave out
        self.drawn = 0  # images of the latest batch, on all ranks
        # How many of them have a label, of which this rank's part has its share by images; None where all have.
        self.labelled: Tensor | None = None
        self._all_labelled = bool((labels != UNLABELLED).all())
        self.memory_format = torch.channels_last  # of the batches
        self.origin: Origin | None = None  # of the latest batch's images; None where each is mixed of two
        # One row of pixels is W * C numbers; statistics of that length let the arithmetic run along memory.
        self._mean = (torch.tensor(preprocessing.mean) * 255).repeat(width).to(device)  # (W * C,)
        self._scale = (1 / (torch.tensor(preprocessing.std) * 255)).repeat(width).to(device)
        count = len(labels) if epoch_images is None else epoch_images
        # The last, incomplete batch is trained on too, unless it is one image and batch norm has nothing to average.
        single = drop_single and count % batch_size == 1 and 1 < batch_size < count
        self._used = count - 1 if single else count

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self._used // self._batch_size)

    def sample(self) -> Tensor:
        """The first images as a batch, neither drawn nor augmented: to try things on."""
        size = min(self._batch_size, self._used)
        return self._normalise(self._images[:size][self._share.of(size)])

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image of the epoch once: normalised float32 images (B, C, H, W) and labels (B,) on the device.

        Behind `resume`, the first epoch has those images alone that the other one had not come to. Where images are
        mixed, labels are the classes' shares, float32 (B, K). B may be zero for a rank that sits a small batch out.
        """
        self._began = self._generator.get_state()
        self._taken, self._skipped = self._skipped, 0
        order = torch.randperm(len(self._labels), generator=self._generator)[: self._used]
        _, height, width, _ = self._images.shape
        drawn = Changes.draw(self._augmentation, len(self._labels), (height, width), self._generator)
        home = self._labels.device
        order, drawn = order.to(home), drawn.to(home)
        everything = self.everything()
        for begin in range(self._taken * self._batch_size, self._used, self._batch_size):
            self._taken += 1
            batch = order[begin : begin + self._batch_size]
            self.drawn = len(batch)
            part = self._share.of(len(batch))
            chosen = batch[part]
            if drawn.shares is not None:  # an image is mixed with the one before it, whichever rank that belongs to
                chosen = torch.cat([batch.roll(1)[part][:1], chosen])
            changes = drawn.of(chosen)
            if not self._all_labelled:
                shares = None if drawn.shares is None else drawn.shares[batch]
                self.labelled = self._count_labelled(batch, shares) * (len(batch[part]) / len(batch))
            self.origin = self._origin(everything, chosen, changes)
            images = self._normalise(crop_and_mirror(self._images[chosen], changes, self._augmentation.crop_padding))
            labels = self._labels[chosen].to(self._device)
            for rectangles in changes.rectangles:
                erase(images, rectangles.to(self._device))
            if changes.shares is not None:
                shares = changes.shares.to(self._device)
                images = mix(images, shares)[1:]
                labels = class_shares(labels, shares, self._classes)[1:]
            yield images, labels
        self._taken = 0

    def plain(self, places: Tensor) -> Tensor:
        """Normalised images (P, C, H, W) as the data set has them, of N images; from place N on their mirror images."""
        count = len(self._labels)
        places = places.to(self._labels.device)
        mirrored = Changes(mirrored=places >= count)
        return self._normalise(crop_and_mirror(self._images[places % count], mirrored, 0))

    def everything(self) -> Origin | None:
        """All images that batches are made of, mirrored ones too if there are any; None where each is made of two."""
        if self._augmentation.mixup:
            return None
        count = len(self._labels) * self._augmentation.plain_views
        return Origin(torch.arange(count), count, self.plain, unchanged=self._augmentation.views is not None)

    def _origin(self, everything: Origin | None, chosen: Tensor, changes: Changes) -> Origin | None:
        if everything is None:
            return None
        mirrored = 0 if changes.mirrored is None else changes.mirrored
        return replace(everything, places=chosen + len(self._labels) * mirrored)

    def _count_labelled(self, batch: Tensor, shares: Tensor | None) -> Tensor:
        """How many images of the whole batch have a label (a number that no one has to wait for); parts of mixed ones
        count as such."""
        has_label = (self._labels[batch] != UNLABELLED).float()
        if shares is not None:
            has_label = shares * has_label + (1 - shares) * has_label.roll(1)
        return has_label.sum().clamp(min=1)

    def snapshot(self) -> Snapshot:
        """The place in the order of images: within an epoch, or between two."""
        state = self._began if self._taken else self._generator.get_state()
        return Snapshot({"generator": state}, _Place(taken=self._taken or self._skipped).model_dump())

    def resume(self, snapshot: Snapshot) -> None:
        """Go on behind the batch at which another one, of the same images and as large batches, stood.

        Raises UnusableCheckpoint.
        """
        state = snapshot.like("generator", self._began)
        self._skipped = snapshot.read(_Place).taken
        try:
            self._generator.set_state(state)
        except RuntimeError as error:
            raise UnusableCheckpoint("it has no state that a generator can take") from error

    def _normalise(self, images: Tensor) -> Tensor:
        count, height, width, channels = images.shape
        rows = images.to(self._device).view(count * height, width * channels).float()
        rows.sub_(self._mean).mul_(self._scale)
        pixels = rows.view(count, height, width, channels).permute(0, 3, 1, 2)
        return pixels.contiguous(memory_format=self.memory_format)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * 3 < free  # the copy being made, and as much again for the training
