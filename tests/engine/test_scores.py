"""Networks that end in a softmax: what trains and measures takes the scores of their probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.engine.architectures.registry import build
from modelpress.engine.distill.hinton import HintonLoss, frozen_teacher, label_loss, softened_divergence
from modelpress.engine.graphs import pt2
from modelpress.engine.graphs.exported import lifted_network
from modelpress.engine.graphs.layers import LAYERS
from modelpress.engine.graphs.network import GraphNetwork, ends_in_softmax
from modelpress.engine.graphs.operators import OPERATORS
from modelpress.engine.graphs.softmax import PLAIN, SOFTMAXES
from modelpress.engine.measure import accuracy_of, agreement_of, outputs_of
from modelpress.engine.pipeline import compress
from modelpress.engine.runtimes import open_session, run_session
from modelpress.engine.scores import logits_of, scores_of
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Report
from modelpress.spec.task import TASK, Compress
from tests.support.exported import export
from tests.support.latency import LATENCY_SECONDS
from tests.support.work_folder import ARCHITECTURE, WorkFolder, patterned_images

CLASSES = 5


class Ending(nn.Module):
    """A classifier of images (B, 1, 4, 4), with an ending of one's own."""

    def __init__(self, ending: nn.Module) -> None:
        super().__init__()
        self.head = nn.Linear(16, CLASSES)
        self.ending = ending

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.ending(self.head(images.flatten(1)))
        return found


class Half(nn.Module):
    """A softmax in half precision between casts."""

    def forward(self, scores: Tensor) -> Tensor:
        return scores.half().softmax(1).to(torch.float32)


class Function(nn.Module):
    """A softmax that is no layer, of scores in other places."""

    def forward(self, scores: Tensor) -> Tensor:
        return F.softmax(scores[:, None, None], dim=-1).reshape(-1, CLASSES)


def exported(ending: nn.Module, folder: Path) -> GraphNetwork:
    torch.manual_seed(3)
    path = export(Ending(ending).eval(), folder / "model.pt2", torch.randn(2, 1, 4, 4))
    return lifted_network(pt2.read(path))


IMAGES = torch.randn(32, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(32) % CLASSES


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (nn.Softmax(1), True),
        (Function(), True),
        (Half(), True),
        (nn.Sequential(nn.Unflatten(1, (CLASSES, 1)), nn.Softmax(1), nn.Flatten()), True),
        (nn.Sequential(nn.Softmax(1), nn.Identity()), True),
        (nn.Sequential(nn.Softmax(1), nn.Linear(CLASSES, CLASSES)), False),
        (nn.LogSoftmax(1), False),
        (nn.Sigmoid(), False),
        (nn.Identity(), False),
    ],
    ids=[
        "layer",
        "function",
        "half",
        "flattened",
        "nothing behind it",
        "in the midst",
        "logarithms",
        "sigmoid",
        "scores",
    ],
)
def test_a_softmax_at_the_end_is_found(ending: nn.Module, expected: bool, tmp_path: Path) -> None:
    assert ends_in_softmax(exported(ending, tmp_path)) is expected


def test_architectures_give_scores() -> None:
    assert not ends_in_softmax(build(ArchitectureRef.model_validate(ARCHITECTURE)))
    assert not ends_in_softmax(Ending(nn.Softmax(1)))


def test_what_is_looked_for_is_what_graphs_may_hold() -> None:
    assert OPERATORS.keys() | LAYERS.keys() >= PLAIN | SOFTMAXES


@pytest.fixture
def pair(tmp_path: Path) -> tuple[GraphNetwork, GraphNetwork]:
    """The same network, which gives scores, and with a softmax behind them."""
    (tmp_path / "scores").mkdir()
    return exported(nn.Identity(), tmp_path / "scores"), exported(nn.Softmax(1), tmp_path)


def test_losses_and_their_gradients_are_those_of_the_scores(pair: tuple[GraphNetwork, GraphNetwork]) -> None:
    found = []
    for module in pair:
        taught = HintonLoss(frozen_teacher(pair[1], torch.device("cpu")), temperature=4.0, alpha=0.5)
        logits = logits_of(module, IMAGES)
        value = label_loss(logits, LABELS) + taught(logits, LABELS, IMAGES + 0.1)
        (gradient,) = torch.autograd.grad(value, [module.get_parameter("head.weight")])
        found.append((value.detach(), gradient))
    torch.testing.assert_close(found[1], found[0])
    # With a teacher of probabilities as with one of scores.
    student = torch.randn(32, CLASSES)
    softened = [softened_divergence(student, logits_of(teacher, IMAGES), 4.0) for teacher in pair]
    torch.testing.assert_close(softened[1], softened[0])


def test_figures_are_those_of_the_scores(pair: tuple[GraphNetwork, GraphNetwork]) -> None:
    images = torch.randint(0, 256, (32, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    preprocessing = Preprocessing(mean=(0.5,), std=(0.25,))
    scores, logarithms = (outputs_of(module, images, preprocessing, "cpu") for module in pair)
    first, second = accuracy_of(scores, LABELS), accuracy_of(logarithms, LABELS)
    assert (second.top1, second.top5) == (first.top1, first.top5)
    assert second.loss == pytest.approx(first.loss, rel=1e-5)
    assert agreement_of(scores, logarithms).kl == pytest.approx(0, abs=1e-6)


def test_a_probability_of_zero_has_a_finite_score_and_small_ones_stay_apart(
    pair: tuple[GraphNetwork, GraphNetwork],
) -> None:
    given = torch.tensor([[1.0, 0.0, 1e-20, 2e-20, 1e-30]])
    found = scores_of(pair[1], given)
    np.testing.assert_allclose(found[0], [0, -87.3365, -46.0517, -45.3586, -69.0776], rtol=1e-5)
    assert torch.equal(scores_of(pair[0], given), given)


def test_what_is_most_wrong_has_the_gradient_that_it_has_by_scores(pair: tuple[GraphNetwork, GraphNetwork]) -> None:
    """The probability of its label is zero in fp32: p - 1 for the label, p for the class that is taken for it."""
    for module in pair:
        with torch.no_grad():
            module.get_parameter("head.bias")[0] = 200.0
        loss = label_loss(logits_of(module, IMAGES[:1]), torch.tensor([1]))
        assert loss.item() > 150
        (gradient,) = torch.autograd.grad(loss, [module.get_parameter("head.bias")])
        torch.testing.assert_close(gradient, torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0]))
    # What it gives to others are probabilities, as before.
    assert torch.equal(pair[1](IMAGES[:1]), torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]))


@pytest.mark.slow
def test_a_job_comes_to_what_it_comes_to_with_scores(tmp_path: Path) -> None:
    """Every file of the one gives the softmax of what that of the other gives."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 4))
    training = {"epochs": 3, "learning_rate": 0.02, "batch_size": 32, "precision": "fp32", "teacher": "original"}
    reports: list[Report] = []
    for name, ending in (("scores", nn.Identity()), ("probabilities", nn.Softmax(1))):
        folder = WorkFolder(tmp_path / name)
        export(nn.Sequential(*module, ending).eval(), folder.path / "inputs/model", torch.randn(2, 1, 32, 32))
        task = {
            "kind": "compress",
            "model": {
                "path": "inputs/model",
                "format": "pt2",
                "preprocessing": {"mean": [0.5], "std": [0.25]},
                "sha256": folder.sha256("inputs/model"),
            },
            "dataset": folder.put_dataset(),
            "recipe": {
                "steps": [{"kind": "prune", "sparsity": 0.5, "training": training}],
                "artifacts": ["compact", "onnx"],
            },
            "threads": 1,
            "device": "cpu",
            "latency_seconds": LATENCY_SECONDS,
        }
        checked = TASK.validate_python(task)
        assert isinstance(checked, Compress)
        compress(checked, folder.path, lambda event: None)
        reports.append(folder.report)
    scores, probabilities = reports
    assert [note for note in probabilities.warnings if note not in scores.warnings] == [
        next(note for note in probabilities.warnings if "are probabilities" in note)
    ]
    for before, after in (
        (scores.baseline.accuracy, probabilities.baseline.accuracy),
        (scores.final.accuracy, probabilities.final.accuracy),
        *((one.accuracy, other.accuracy) for one, other in zip(scores.proofs, probabilities.proofs, strict=True)),
    ):
        assert before is not None
        assert after is not None
        assert after.top1 == before.top1
        assert after.loss == pytest.approx(before.loss, rel=1e-3)
    assert scores.final.agreement is not None
    assert probabilities.final.agreement is not None
    assert probabilities.final.agreement.kl == pytest.approx(scores.final.agreement.kl, rel=1e-2)
    trained = [report.stages[0].training for report in reports]
    assert trained[0] is not None
    assert trained[1] is not None
    assert trained[1].final_loss == pytest.approx(trained[0].final_loss, rel=1e-3)
    images, _ = patterned_images(8, seed=2)
    given = (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    before_softmax, behind_it = (
        torch.from_numpy(run_session(open_session(tmp_path / name / "artifacts/model.onnx"), given.numpy()))
        for name in ("scores", "probabilities")
    )
    torch.testing.assert_close(behind_it, before_softmax.softmax(1), rtol=1e-3, atol=1e-4)
