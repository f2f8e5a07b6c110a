"""Gradients of the loss over some training images, for criteria that ask what a weight does to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.scores import logits_of
from modelpress.spec.failure import Diverged
from modelpress.spec.network import Preprocessing
from modelpress.spec.training import Augmentation

_BATCH = 64  # images; of no effect on the mean


class Gradients:
    """Gradients averaged over `count` training images drawn by `seed`, all of them where there are fewer.

    The loss is the cross-entropy with the labels, in evaluation mode and fp32, images neither cropped nor mirrored.
    The same images each time, so that two answers differ by the weights alone. `otherwise` is the criterion that a
    user is pointed to where there are no gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        data: ImageData,
        preprocessing: Preprocessing,
        *,
        count: int,
        seed: int,
        otherwise: str = "magnitude",
    ) -> None:
        data = data.labelled()
        self._module, self._data, self._preprocessing, self._seed = module, data, preprocessing, seed
        self._otherwise = otherwise
        order = torch.randperm(len(data.train_labels), generator=torch.Generator().manual_seed(seed))
        self._chosen = order[:count].sort().values

    def of(self, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The gradient of each weight, in its shape; zero where the loss does not depend on it.

        Neither `grad` nor the module's mode changes. Raises Diverged when one is infinite or not a number.
        """
        return self._mean(weights, _BATCH, lambda gradient: gradient)

    def squares_of(self, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The mean over the images of each one's squared gradient: the diagonal of the empirical Fisher information.

        Takes one backward pass for each image. Otherwise as `of`.
        """
        return self._mean(weights, 1, torch.square)

    def _mean(
        self, weights: Mapping[str, nn.Parameter], batch_size: int, of_batch: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """The sum of what `of_batch` makes of each batch's summed gradient, over the number of images."""
        device = next(iter(weights.values())).device
        batches = Batches(
            self._data.train_images[self._chosen],
            self._data.train_labels[self._chosen],
            self._preprocessing,
            Augmentation(),
            batch_size=batch_size,
            generator=torch.Generator().manual_seed(self._seed),
            device=device,
        )
        sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
        training = {layer: layer.training for layer in self._module.modules()}
        self._module.eval()
        try:
            for images, labels in batches.epoch():
                with torch.enable_grad():
                    loss = F.cross_entropy(logits_of(self._module, images), labels, reduction="sum")
                    found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
                for total, gradient in zip(sums.values(), found, strict=True):
                    total.add_(of_batch(gradient))
        finally:
            for layer, mode in training.items():
                layer.training = mode
        if not all(bool(total.isfinite().all()) for total in sums.values()):
            raise Diverged(
                "the gradients that weights are ranked by are infinite or not numbers; check the model's weights and "
                f"its preprocessing, or use the criterion `{self._otherwise}`"
            )
        return {name: total / len(self._chosen) for name, total in sums.items()}
