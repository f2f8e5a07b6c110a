"""Trainings that two real processes share, against the same training in one."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from modelpress.engine.architectures.registry import build
from modelpress.engine.data.batches import Batches
from modelpress.engine.data.dataset import ImageData
from modelpress.engine.distill.hinton import LabelLoss, frozen_teacher
from modelpress.engine.distill.loss import distillation_loss
from modelpress.engine.finetune.step import finetune
from modelpress.engine.journal import TrainingProgress
from modelpress.engine.network import Network
from modelpress.engine.prune.step import prune
from modelpress.engine.quantize.step import quantize
from modelpress.engine.ranks.leader import ALONE, Leader, Ranks
from modelpress.engine.step import StepContext
from modelpress.engine.training import train
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.steps import Finetune, Prune, Quantize
from modelpress.spec.steps.distillation_loss import DistillationLoss, Hints, LayerPair, Relational
from modelpress.spec.training import Augmentation, Recovery, Training
from tests.support.followers import CPU, leading
from tests.support.image_data import noise
from tests.support.tiny import tiny_module, tiny_network

# 41 images in batches of 8: the last one has a single image, which the follower sits out.
DATA = noise(41)
AUGMENTATION = Augmentation(horizontal_flip=True, crop_padding=2, cutout=3)
TRAINING = Training(
    epochs=2, batch_size=8, learning_rate=0.05, gradient_clip=0.5, augmentation=AUGMENTATION, precision="fp32"
)
RECOVERY = Recovery(teacher="original", temperature=2.0, alpha=0.5, **TRAINING.model_dump())


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Leader]:
    with leading(tmp_path_factory.mktemp("ranks")) as leader:
        yield leader


def fresh(*, norm: bool = False, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tiny_module(classes=3, norm=norm)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], start: dict[str, Tensor]) -> None:
    """The same to rounding, and not because nothing moved."""
    assert any(float((one[name] - start[name]).abs().max()) > 0.01 for name in one)
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def context(ranks: Ranks, original: Network) -> StepContext:
    return StepContext(original=original, data=DATA, seed=3, device=CPU, ranks=ranks)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_two_processes_train_as_one_does(leader: Leader, optimizer: str):
    training = TRAINING.model_copy(
        update={"optimizer": optimizer, "learning_rate": 0.05 if optimizer == "sgd" else 0.005}
    )
    results, summaries = [], []
    for ranks in (leader, ALONE):
        module = fresh()
        summaries.append(
            train(module, DATA, DATA.statistics, training, loss=LabelLoss(0.1), seed=1, device=CPU, ranks=ranks)
        )
        results.append(weights(module))
    assert_close(*results, weights(fresh()))
    assert [summary.processes for summary in summaries] == [2, 1]
    assert [summary.steps for summary in summaries] == [12, 12]
    assert summaries[0].final_loss == pytest.approx(summaries[1].final_loss, rel=1e-4)


def test_images_that_are_not_changed_are_asked_of_the_teacher_by_their_place(leader: Leader):
    step = Finetune(training=RECOVERY.model_copy(update={"augmentation": Augmentation(), "epochs": 3}))
    network, original = tiny_network(DATA.statistics, classes=3, norm=False), tiny_network(classes=3, seed=5)
    results = [weights(finetune(network, step, context(ranks, original)).network.module) for ranks in (leader, ALONE)]
    assert_close(*results, weights(network.module))


def test_mixed_images_averages_and_an_early_stop_are_those_of_one_process(leader: Leader):
    """An image may be mixed with one of the other process's part; what is decided, the leader decides."""
    training = RECOVERY.model_validate(
        {
            **RECOVERY.model_dump(),
            "epochs": 4,
            "augmentation": AUGMENTATION.model_copy(update={"mixup": 0.5, "random_erasing": 0.5}),
            "ema": 0.5,
            "validation": 0.3,
            "keep_best": True,
            "patience": 1,
        }
    )
    # Pixels that the teacher takes otherwise, which a hook on it turns.
    other = Preprocessing(mean=(0.2,), std=(0.5,))
    network, original = tiny_network(DATA.statistics, classes=3, norm=False), tiny_network(other, classes=3, seed=5)
    results = [finetune(network, Finetune(training=training), context(ranks, original)) for ranks in (leader, ALONE)]
    assert_close(*(weights(result.network.module) for result in results), weights(network.module))
    told = [
        result.training.model_dump(include={"epochs", "best_epoch", "stopped_early"})
        for result in results
        if result.training
    ]
    assert told[0] == told[1]
    assert told[0]["stopped_early"]


def test_masks_are_held_and_grow_under_a_teacher(leader: Leader):
    step = Prune.model_validate({"sparsity": 0.6, "schedule": {"kind": "cubic"}, "training": RECOVERY.model_dump()})
    network, original = tiny_network(DATA.statistics, classes=3, norm=False), tiny_network(classes=3, seed=5)
    pruned = [prune(network, step, context(ranks, original)).network for ranks in (leader, ALONE)]
    assert_close(*(weights(result.module) for result in pruned), weights(network.module))
    assert pruned[0].masks.keys() == pruned[1].masks.keys()
    for name, mask in pruned[0].masks.items():
        assert mask.equal(pruned[1].masks[name])
        assert not pruned[0].module.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("penalised", [{}, {"rate": 1.0, "step_sizes": "learned"}], ids=["plain", "penalised"])
def test_the_forward_pass_of_every_process_sees_quantized_weights(leader: Leader, penalised: dict[str, float | str]):
    step = Quantize.model_validate({"bits": 4, "training": RECOVERY, **penalised})
    network, original = tiny_network(DATA.statistics, classes=3, norm=False), tiny_network(classes=3, seed=5)
    results = [quantize(network, step, context(ranks, original)).network for ranks in (leader, ALONE)]
    # Rounding may put a weight beside a border onto either side of it: a step of the grid apart, and rarely.
    apart = [
        (results[0].module.get_parameter(name) - results[1].module.get_parameter(name)).abs() > 1e-4
        for name in results[0].grids
    ]
    assert sum(int(far.sum()) for far in apart) <= 0.01 * sum(far.numel() for far in apart)


@pytest.mark.parametrize(
    "wanted",
    [
        Hints(layers=(LayerPair(teacher="3", student="3"),)),
        Relational(distance=1.0, angle=0.0),
    ],
    ids=lambda wanted: wanted.kind,
)
def test_losses_that_look_inside_the_networks_go_along(leader: Leader, wanted: DistillationLoss):
    """Hints are a mean over images, so that two processes agree with one; relations are those within a part."""
    results = []
    for ranks in (leader, ALONE):
        module = fresh()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8)
            teacher = frozen_teacher(tiny_module(classes=3, norm=False, width=12), CPU)
            with distillation_loss(wanted, teacher, module, label_smoothing=0.0) as loss:
                train(module, DATA, DATA.statistics, TRAINING, loss=loss, seed=1, device=CPU, ranks=ranks)
        assert all(weight.isfinite().all() for weight in module.parameters())
        results.append(weights(module))
    if wanted.kind == "hints":
        assert_close(*results, weights(fresh()))
    else:
        assert not torch.equal(results[0]["0.weight"], results[1]["0.weight"])


def test_a_network_of_torchvision_is_trained_with_dropout(leader: Leader):
    data = noise(8, channels=3, size=32)
    arguments = {"num_classes": 3, "width_mult": 0.25}
    module = build(ArchitectureRef(architecture="mobilenet_v3_small", arguments=arguments))
    start = weights(module)
    training = TRAINING.model_copy(update={"epochs": 1})
    summary = train(module, data, data.statistics, training, loss=LabelLoss(), seed=1, device=CPU, ranks=leader)
    assert (summary.steps, summary.processes) == (1, 2)
    assert all(weight.isfinite().all() for weight in module.parameters())
    assert not torch.equal(module.state_dict()["features.0.0.weight"], start["features.0.0.weight"])


def written_out(module: nn.Module, data: ImageData, training: Training, seed: int) -> None:
    """Two-process training with batch norm, in plain PyTorch: halves of each batch through copies of the network."""
    batches = Batches(
        data.train_images,
        data.train_labels,
        data.statistics,
        training.augmentation,
        batch_size=training.batch_size,
        generator=torch.Generator().manual_seed(seed),
        device=CPU,
        drop_single=True,
    )
    matrices, vectors = ([p for p in module.parameters() if (p.ndim > 1) is big] for big in (True, False))
    groups = [{"params": matrices, "weight_decay": training.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=training.learning_rate, momentum=training.momentum, nesterov=True)
    module.train()
    for _ in range(training.epochs):
        for images, labels in batches.epoch():
            half = len(labels) // 2
            pieces = (
                [(images, labels)] if half < 2 else [(images[:half], labels[:half]), (images[half:], labels[half:])]
            )
            copies = []
            for part, answers in pieces:
                copies.append(copy.deepcopy(module))
                loss = nn.functional.cross_entropy(copies[-1](part), answers) * len(answers) / len(labels)
                torch.autograd.backward(loss)
            for name, parameter in module.named_parameters():
                parameter.grad = sum(other.get_parameter(name).grad for other in copies)
            for name, buffer in module.named_buffers():
                if buffer.is_floating_point():
                    shares = [len(answers) / len(labels) for _, answers in pieces]
                    buffer.copy_(sum(s * c.get_buffer(name) for s, c in zip(shares, copies, strict=True)))
            optimizer.step()


def test_batch_norms_average_over_a_part_and_keep_the_mean_of_their_statistics(leader: Leader):
    data = noise(43)  # the last batch has three images, too few for two norms
    training = TRAINING.model_copy(update={"schedule": "constant", "gradient_clip": None})
    module, reference = fresh(norm=True), fresh(norm=True)
    train(module, data, data.statistics, training, loss=LabelLoss(), seed=1, device=CPU, ranks=leader)
    written_out(reference, data, training, seed=1)
    found, wanted = weights(module), weights(reference)
    for name in ("1.num_batches_tracked", "4.num_batches_tracked"):
        assert found.pop(name) == 12
        wanted.pop(name)  # counted in the copies
    assert_close(found, wanted, weights(fresh(norm=True)))


def test_progress_tells_of_all_images(leader: Leader, monkeypatch: pytest.MonkeyPatch):
    """A linear network that always says class 1, over labels that the two processes see different parts of."""
    monkeypatch.setattr("modelpress.engine.journal._SECONDS_BETWEEN_REPORTS", 0.0)
    data = noise(25)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].bias.copy_(torch.tensor([0.0, 40.0, 0.0]))
    seen: list[TrainingProgress] = []
    training = Training(epochs=1, batch_size=25, weight_decay=0.0, learning_rate=1e-6)
    train(
        module,
        data,
        data.statistics,
        training,
        loss=LabelLoss(),
        seed=0,
        device=CPU,
        on_progress=seen.append,
        ranks=leader,
    )
    wrong = float((data.train_labels != 1).float().mean())
    assert [progress.metrics["accuracy"] for progress in seen] == pytest.approx([1 - wrong])
    assert [progress.metrics["loss"] for progress in seen] == pytest.approx([40 * wrong])
