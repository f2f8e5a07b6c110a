from __future__ import annotations

import pytest
import torch

from modelpress.engine.distill.step import distill
from modelpress.engine.network import Network, rebuild
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.failure import IncompatibleSpec
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Distill, Prune, Quantize
from modelpress.spec.training import Training
from tests.support.contexts import context
from tests.support.image_data import noise, normalised
from tests.support.networks import describe, network
from tests.support.tiny import tiny_network


def original_of(channels: int = 1) -> Network:
    original = network(describe("vgg11_bn_cifar", width=0.125, num_classes=3, in_channels=channels))
    statistics = noise(channels=channels, size=32).statistics
    original.description = original.description.model_copy(
        update={"preprocessing": statistics, "classes": ("ant", "bee", "cow")}
    )
    return original


def step(architecture: str = "snn_1k", **arguments: int) -> Distill:
    return Distill(
        student=ArchitectureRef(architecture=architecture, arguments=arguments),
        training=Training(epochs=1, batch_size=8),
    )


def test_the_student_takes_over_input_outputs_and_preprocessing():
    original = original_of()
    result = distill(original, step(), context(original, noise(size=32)))
    described = result.network.description
    assert described.architecture == ArchitectureRef(
        architecture="snn_1k", arguments={"num_classes": 3, "in_channels": 1}
    )
    assert described.input_shape == (1, 32, 32)
    assert described.preprocessing == original.description.preprocessing
    assert described.classes == ("ant", "bee", "cow")
    assert result.network.masks == {}
    assert result.training is not None
    assert result.training.steps == 3
    again = rebuild(described).eval()
    again.load_state_dict(result.network.module.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(again(images), result.network.module(images))


def test_learns_from_the_original_even_after_other_steps():
    """At alpha 1 and enough steps the student's outputs come near the original's, not those of what was pruned."""
    original = original_of()
    data = noise(48, size=32)
    ruined = prune(original, Prune(sparsity=0.99), context(original)).network
    recipe = Distill(
        student=ArchitectureRef(architecture="snn_1k"),
        alpha=1.0,
        temperature=2.0,
        training=Training(epochs=15, batch_size=16, learning_rate=0.001, optimizer="adamw", precision="fp32"),
    )
    student = distill(ruined, recipe, context(original, data)).network
    assert original.description.preprocessing is not None
    mean, std = original.description.preprocessing.mean[0], original.description.preprocessing.std[0]
    images = (data.train_images.float() / 255 - mean) / std
    with torch.no_grad():
        taught, wrong, learnt = (n.module(images).softmax(1) for n in (original, ruined, student))
    assert (learnt - taught).abs().mean() < 0.5 * (learnt - wrong).abs().mean()


def test_the_student_is_drawn_by_the_seed_alone():
    original = original_of()
    data = noise(8, size=32)
    torch.manual_seed(1)
    first = distill(original, step(), context(original, data, seed=5)).network.module.state_dict()
    torch.manual_seed(2)
    pruned = prune(original, Prune(sparsity=0.5), context(original)).network
    second = distill(pruned, step(), context(original, data, seed=5)).network.module.state_dict()
    third = distill(original, step(), context(original, data, seed=6)).network.module.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_torchvision_students_take_no_channels():
    original = original_of(channels=3)
    result = distill(original, step("mobilenet_v3_small"), context(original, noise(8, channels=3, size=32)))
    assert result.network.description.architecture.arguments == {"num_classes": 3}


def test_a_student_that_takes_other_channels():
    original = original_of()
    with pytest.raises(IncompatibleSpec, match=r"the student 'resnet18' cannot take images of 1 x 32 x 32"):
        distill(original, step("resnet18"), context(original, noise(8, size=32)))


def test_a_student_for_larger_images():
    original = original_of(channels=3)
    with pytest.raises(IncompatibleSpec, match=r"the student 'alexnet' cannot take images of 3 x 32 x 32"):
        distill(original, step("alexnet"), context(original, noise(8, channels=3, size=32)))


def test_a_student_with_other_outputs():
    original = original_of()
    with pytest.raises(IncompatibleSpec, match="has 10 outputs, the original 3; set its `num_classes` to 3"):
        distill(original, step(num_classes=10), context(original, noise(8, size=32)))


def test_a_student_that_cannot_be_built():
    original = original_of()
    with pytest.raises(IncompatibleSpec, match="there is no architecture 'nothing'"):
        distill(original, step("nothing"), context(original, noise(8, size=32)))
    with pytest.raises(IncompatibleSpec, match=r"the student cannot be built: .*`wings`"):
        distill(original, step(wings=2), context(original, noise(8, size=32)))


def with_student(student: dict[str, object], **training: object) -> Distill:
    return Distill.model_validate({"student": student, "training": {"epochs": 1, "batch_size": 8, **training}})


def test_the_current_network_learns_with_its_zeros():
    original = original_of()
    pruned = prune(original, Prune(sparsity=0.8), context(original)).network
    before = {name: tensor.clone() for name, tensor in pruned.module.state_dict().items()}
    student = distill(pruned, with_student({"kind": "current"}), context(original, noise(size=32))).network
    after = student.module.state_dict()
    assert student.description == pruned.description
    assert all(torch.equal(pruned.module.state_dict()[name], tensor) for name, tensor in before.items())
    assert student.masks.keys() == pruned.masks.keys() != set()
    for name, mask in pruned.masks.items():
        assert not bool(after[name][~mask].any())
        assert not torch.equal(after[name][mask], before[name][mask])


def test_a_thinner_student_has_the_share_of_the_channels():
    original = original_of()
    student = distill(original, with_student({"kind": "thinner", "width": 0.5}), context(original, noise(size=32)))
    # VGG-11 has 64 channels first; the original has an eighth of them.
    assert student.network.module.get_parameter("features.0.weight").shape == (4, 1, 3, 3)
    described = student.network.description.architecture
    assert described.arguments == {"width": 0.0625, "num_classes": 3, "in_channels": 1}


def test_a_student_of_an_architecture_without_width():
    original = network(describe("nin_cifar", num_classes=3, in_channels=1))
    with pytest.raises(IncompatibleSpec, match="nin_cifar takes no `width`"):
        distill(original, with_student({"kind": "thinner", "width": 0.5}), context(original, noise(8, size=32)))


def test_an_uploaded_student_begins_with_its_own_weights():
    original = original_of()
    own = Preprocessing(mean=(0.25,), std=(0.5,))
    uploaded = network(describe("vgg13_bn_cifar", width=0.0625, num_classes=3, in_channels=1), seed=9)
    uploaded.description = uploaded.description.model_copy(update={"preprocessing": own})
    # As the file of an earlier job is loaded, which pruned and quantized.
    uploaded = quantize(
        prune(uploaded, Prune(sparsity=0.3), context(uploaded)).network, Quantize(bits=8), context(uploaded)
    ).network
    assert uploaded.masks
    assert uploaded.grids
    before = {name: tensor.clone() for name, tensor in uploaded.module.state_dict().items()}
    asked = with_student(
        {"kind": "uploaded", "model": "mdl_small"}, learning_rate=1e-7, weight_decay=0.0, precision="fp32"
    )
    # What a step before has made of the original leaves no trace.
    pruned = prune(original, Prune(sparsity=0.8), context(original)).network
    result = distill(pruned, asked, context(original, noise(size=32), students={"mdl_small": uploaded}))
    student = result.network
    assert student.description.architecture == uploaded.description.architecture
    assert student.description.preprocessing == own
    assert student.description.classes == ("ant", "bee", "cow")
    assert student.masks == student.grids == {}
    assert result.training is not None
    for name, weight in student.module.named_parameters():
        torch.testing.assert_close(weight.detach(), before[name], rtol=0, atol=1e-4)
    moved = [name for name, weight in student.module.named_parameters() if not torch.equal(weight, before[name])]
    assert moved
    assert all(torch.equal(tensor, before[name]) for name, tensor in uploaded.module.state_dict().items())


def test_an_uploaded_student_without_preprocessing_has_the_original_s():
    original = original_of()
    uploaded = network(describe("vgg11_bn_cifar", width=0.0625, num_classes=3, in_channels=1))
    asked = with_student({"kind": "uploaded", "model": "mdl_small"})
    student = distill(original, asked, context(original, noise(size=32), students={"mdl_small": uploaded})).network
    assert student.description.preprocessing == original.description.preprocessing != None  # noqa: E711
    assert uploaded.description.preprocessing is None


def test_an_uploaded_student_learns_from_the_original_s_view_of_the_same_image():
    """The first batch's loss by hand: each network is given the pixels normalised as it was trained on."""
    data = noise(24)
    original = tiny_network(Preprocessing(mean=(0.5,), std=(0.25,)), norm=False, classes=3)
    uploaded = tiny_network(Preprocessing(mean=(0.1,), std=(2.0,)), norm=False, classes=3, seed=1)
    asked = Distill.model_validate(
        {
            "student": {"kind": "uploaded", "model": "mdl_small"},
            "loss": {"kind": "logits"},
            "training": {"epochs": 1, "batch_size": 24, "learning_rate": 1e-12, "precision": "fp32"},
        }
    )
    with torch.no_grad():
        taught, said = (
            one.module(normalised(data.train_images, one.description.preprocessing)) for one in (original, uploaded)
        )
    result = distill(original, asked, context(original, data, students={"mdl_small": uploaded}))
    assert result.training is not None
    assert result.training.final_loss == pytest.approx(float((taught - said).square().mean()), rel=1e-3)


def test_uploaded_students_that_do_not_fit():
    original = original_of()
    asked = with_student({"kind": "uploaded", "model": "mdl_small"})
    outputs = network(describe("snn_1k", num_classes=4, in_channels=1))
    images = network(describe("resnet18", num_classes=3, image_size=64))
    for students, message in (
        ({}, "the student 'mdl_small' was not given"),
        ({"mdl_small": outputs}, "the student 'mdl_small' has 4 outputs, the original 3"),
        ({"mdl_small": images}, "takes images of 3 x 64 x 64, the original of 1 x 32 x 32"),
    ):
        with pytest.raises(IncompatibleSpec, match=message):
            distill(original, asked, context(original, noise(8, size=32), students=students))


def test_without_data():
    original = original_of()
    with pytest.raises(IncompatibleSpec, match="needs a data set"):
        distill(original, step(), context(original))
