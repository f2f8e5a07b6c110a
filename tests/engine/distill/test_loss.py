"""Every loss in a training of a student, and what the losses that look inside a network ask of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modelpress.engine.distill.attention import attention_map
from modelpress.engine.distill.hinton import HintonLoss, frozen_teacher
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.distill.step import distill
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.steps import Distill
from modelpress.spec.steps.distillation_loss import Attention, LayerPair, Relational
from tests.engine.distill.test_relational import by_the_paper
from tests.support.contexts import context
from tests.support.image_data import noise
from tests.support.networks import describe, network
from tests.support.tiny import tiny_module

PAIR = {"teacher": "features.4", "student": "features.4"}


def run(loss: dict[str, Any]) -> Any:
    original = network(describe("vgg11_bn_cifar", width=0.125, num_classes=3, in_channels=1))
    step = Distill.model_validate(
        {
            "student": {"architecture": "vgg11_bn_cifar", "arguments": {"width": 0.0625}},
            "loss": loss,
            "training": {"epochs": 1, "batch_size": 8, "precision": "fp32"},
        }
    )
    return distill(original, step, context(original, noise(size=32)))


@pytest.mark.parametrize(
    "loss",
    [{"kind": "dkd"}, {"kind": "logits"}, {"kind": "relational"}, {"kind": "attention", "layers": [PAIR]}],
    ids=lambda loss: loss["kind"],
)
def test_each_loss_trains_another_student_than_hintons(loss: dict[str, Any]):
    found, hintons = run(loss), run({"kind": "hinton"})
    assert np.isfinite(found.training.final_loss)
    differ = [
        not torch.equal(one, other)
        for one, other in zip(found.network.module.parameters(), hintons.network.module.parameters(), strict=True)
    ]
    assert any(differ)
    # No hook is left on what goes on to the next step.
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in found.network.module.modules())


@pytest.mark.parametrize("kind", ["relational", "attention", "hints"])
def test_layers_are_compared_where_the_outputs_have_no_say(kind: str):
    layers = {} if kind == "relational" else {"layers": [PAIR]}
    assert np.isfinite(run({"kind": kind, "alpha": 0, **layers}).training.final_loss)


def test_layers_that_are_not_there():
    wrong = {"kind": "attention", "layers": [{**PAIR, "student": "features.5"}]}
    with pytest.raises(IncompatibleSpec, match=r"the student has no convolution features\.5.*features\.0"):
        run(wrong)


def test_maps_of_different_sizes():
    wrong = {"kind": "attention", "layers": [{"teacher": "features.0", "student": "features.4"}]}
    with pytest.raises(IncompatibleSpec, match=r"'features\.0' of the original gives maps of 32 x 32 pixels.* 16 x 16"):
        run(wrong)


def test_attention_of_two_pixels_by_hand():
    """Channels (1, 2) and (3, 0): means of squares 5 and 2, over their norm sqrt(29)."""
    found = attention_map(torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]))
    assert found.tolist()[0] == pytest.approx([5 / 29**0.5, 2 / 29**0.5])


@torch.no_grad()
def test_what_is_added_to_hintons_loss():
    """The layers' outputs are taken from separate runs of the layers here, not from hooks."""
    torch.manual_seed(0)
    teacher, student = frozen_teacher(tiny_module(), torch.device("cpu")), tiny_module(norm=False).eval()
    images, labels = torch.randn(5, 1, 8, 8), torch.arange(5)
    hinton = float(HintonLoss(teacher, temperature=4.0, alpha=0.9)(student(images), labels, images))
    wanted = Attention(layers=(LayerPair(teacher="3", student="3"),), weight=10.0)
    with distillation_loss(wanted, teacher, student, label_smoothing=0.0) as loss:
        found = float(loss(student(images), labels, images))
    maps = [torch.nn.Sequential(*list(net)[:4])(images).numpy() for net in (teacher, student)]
    maps = [(one**2).mean(1).reshape(5, -1) for one in maps]
    maps = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in maps]
    assert found == pytest.approx(hinton + 10 * ((maps[0] - maps[1]) ** 2).mean(), rel=1e-5)


@torch.no_grad()
def test_distances_and_angles_have_their_weights():
    torch.manual_seed(0)
    teacher, student = frozen_teacher(tiny_module(), torch.device("cpu")), tiny_module().eval()
    images, labels = torch.randn(5, 1, 8, 8), torch.arange(5)
    hinton = float(HintonLoss(teacher, temperature=4.0, alpha=0.9)(student(images), labels, images))
    embeddings = [torch.nn.Sequential(*list(net)[:-1])(images).double().numpy() for net in (student, teacher)]
    distances, angles = by_the_paper(*embeddings)
    for wanted in (Relational(distance=3.0, angle=7.0), Relational()):
        with distillation_loss(wanted, teacher, student, label_smoothing=0.0) as loss:
            found = float(loss(student(images), labels, images))
        assert found == pytest.approx(hinton + wanted.distance * distances + wanted.angle * angles, rel=1e-5)
    assert (wanted.distance, wanted.angle) == (25, 50)  # the paper's


def test_embeddings_are_what_the_last_layer_is_given():
    torch.manual_seed(0)
    teacher = frozen_teacher(tiny_module(), torch.device("cpu"))
    student = tiny_module().eval()
    student.load_state_dict(teacher.state_dict())
    images, labels = torch.randn(5, 1, 8, 8), torch.arange(5)
    with torch.no_grad():
        student[9].weight.mul_(3)
        hinton = float(HintonLoss(teacher, temperature=4.0, alpha=0.9)(student(images), labels, images))
        with distillation_loss(Relational(), teacher, student, label_smoothing=0.0) as loss:
            alike = float(loss(student(images), labels, images))
            student[7].weight[:8].mul_(3)
            other = float(loss(student(images), labels, images))
    # Another classifier upon the same embeddings adds nothing; another embedding does.
    assert alike == pytest.approx(hinton, rel=1e-6)
    assert other > hinton + 0.01
