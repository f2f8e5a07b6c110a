"""Images normalised for one network, as another takes them, against the definition of normalising."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.engine.distill.renormalise import renormalise_inputs
from modelpress.engine.distill.watch import watch_outputs
from modelpress.spec.network import Preprocessing
from tests.support.image_data import noise, normalised
from tests.support.tiny import tiny_module

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SCALED = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
UNEVEN = Preprocessing(mean=(0.9, -0.4, 0.5), std=(0.01, 3.0, 0.5))


@pytest.mark.parametrize(("given", "wanted"), [(IMAGENET, SCALED), (SCALED, IMAGENET), (UNEVEN, IMAGENET)])
def test_pixels_are_what_the_network_was_made_for(given: Preprocessing, wanted: Preprocessing):
    images = noise(4, channels=3).train_images
    network = nn.Sequential(nn.Identity())
    renormalise_inputs(network, given, wanted, torch.device("cpu"))
    torch.testing.assert_close(network(normalised(images, given)), normalised(images, wanted), rtol=1e-5, atol=1e-5)


def test_layers_are_still_watched_by_their_names():
    images = noise(4, channels=3).train_images
    plain, renormalised = (tiny_module(channels=3, norm=False).eval() for _ in range(2))
    renormalised.load_state_dict(plain.state_dict())
    renormalise_inputs(renormalised, SCALED, IMAGENET, torch.device("cpu"))
    assert list(renormalised.state_dict()) == list(plain.state_dict())
    with watch_outputs(plain, ["3"]) as expected, watch_outputs(renormalised, ["3"]) as seen, torch.no_grad():
        plain(normalised(images, IMAGENET))
        renormalised(normalised(images, SCALED))
        torch.testing.assert_close(seen["3"], expected["3"], rtol=1e-4, atol=1e-4)
