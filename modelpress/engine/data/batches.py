"""Training batches: drawn, cropped, mirrored and normalised for a whole batch at once, without per-image Python."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation


class Batches:
    """Batches of one data set, epoch after epoch, in an order drawn from `generator`.

    Images are uint8 (N, C, H, W), labels int64 (N,). They are held on the device when they fit there, channels last,
    so that cropping and mirroring copy whole pixels and the batch comes out in channels_last without a transposition.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        *,
        batch_size: int,
        generator: torch.Generator,
        device: torch.device,
        drop_single: bool = False,
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
        self._batch_size = batch_size
        self._generator = generator
        self._device = device
        self.memory_format = torch.channels_last  # of the batches
        # Places (B,) of the latest batch's images in the data set; None where they were changed at random.
        self.indices: Tensor | None = None
        # One row of pixels is W * C numbers; statistics of that length let the arithmetic run along memory.
        self._mean = (torch.tensor(preprocessing.mean) * 255).repeat(width).to(device)  # (W * C,)
        self._scale = (1 / (torch.tensor(preprocessing.std) * 255)).repeat(width).to(device)
        count = len(labels)
        # The last, incomplete batch is trained on too, unless it is one image and batch norm has nothing to average.
        single = drop_single and count % batch_size == 1 and 1 < batch_size < count
        self._used = count - 1 if single else count

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self._used // self._batch_size)

    def sample(self) -> Tensor:
        """The first images as a batch, neither drawn nor augmented: to try things on."""
        return self._normalise(self._images[: self._batch_size])

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once: normalised float32 images (B, C, H, W) and labels (B,) on the device."""
        count = len(self._labels)
        home = self._labels.device
        order = torch.randperm(count, generator=self._generator)[: self._used].to(home)
        padding = self._augmentation.crop_padding
        # Drawn for all images at once; an epoch without augmentation draws nothing.
        shifts = torch.randint(2 * padding + 1, (2, count), generator=self._generator).to(home) if padding else None
        mirrored = None
        if self._augmentation.horizontal_flip:
            mirrored = (torch.rand(count, generator=self._generator) < 0.5).to(home)
        centres = None
        if self._augmentation.cutout:
            sides = torch.tensor(self._images.shape[1:3])[:, None]  # height, width
            centres = (torch.rand(2, count, generator=self._generator) * sides).long().to(self._device)
        for begin in range(0, self._used, self._batch_size):
            chosen = order[begin : begin + self._batch_size]
            self.indices = chosen if self._augmentation == Augmentation() else None
            images = self._images[chosen]
            if shifts is not None or mirrored is not None:
                images = augment(
                    images,
                    shifts=None if shifts is None else shifts[:, chosen],
                    mirrored=None if mirrored is None else mirrored[chosen],
                    padding=padding,
                )
            normalised = self._normalise(images)
            if centres is not None:
                cut_out(normalised, centres[:, chosen.to(self._device)], self._augmentation.cutout)
            yield normalised, self._labels[chosen].to(self._device)

    def _normalise(self, images: Tensor) -> Tensor:
        count, height, width, channels = images.shape
        rows = images.to(self._device).view(count * height, width * channels).float()
        rows.sub_(self._mean).mul_(self._scale)
        pixels = rows.view(count, height, width, channels).permute(0, 3, 1, 2)
        return pixels.contiguous(memory_format=self.memory_format)


def augment(images: Tensor, *, shifts: Tensor | None, mirrored: Tensor | None, padding: int) -> Tensor:
    """Crop each image out of its zero-padded self, then mirror it where asked.

    `images` (B, H, W, C); `shifts` (2, B), rows and columns in 0..2 padding, None for no crop; `mirrored` (B,) bool.
    Returns (B, H, W, C).
    """
    count, height, width, channels = images.shape
    device = images.device
    rows = torch.arange(height, device=device).expand(count, height)
    columns = torch.arange(width, device=device).expand(count, width)
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], width - 1 - columns, columns)
    if shifts is not None:
        images = F.pad(images, (0, 0, padding, padding, padding, padding))
        rows = rows + shifts[0, :, None]
        columns = columns + shifts[1, :, None]
    _, padded_height, padded_width, _ = images.shape
    first = torch.arange(count, device=device)[:, None] * padded_height + rows  # (B, H): row in the batch's rows
    pixels = first[:, :, None] * padded_width + columns[:, None, :]  # (B, H, W): pixel in the batch's pixels
    # index_select over whole pixels is four times faster on the CPU than indexing by three tensors.
    return images.reshape(-1, channels).index_select(0, pixels.view(-1)).view(count, height, width, channels)


def cut_out(images: Tensor, centres: Tensor, side: int) -> None:
    """Set a square of each normalised image (B, C, H, W) to zero, the mean, in place (DeVries and Taylor 2017).

    `centres` (2, B): row and column; what of the square lies outside of the image is lost, as in the paper.
    """
    first = centres[:, :, None] - side // 2  # (2, B, 1)
    rows = torch.arange(images.shape[2], device=images.device) - first[0]  # (B, H)
    columns = torch.arange(images.shape[3], device=images.device) - first[1]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    images.masked_fill_(inside[:, None], 0.0)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.numel() * 3 < free  # the copy being made, and as much again for the training
