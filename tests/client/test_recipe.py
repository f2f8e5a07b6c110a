"""Recipes from files and from flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.client.errors import InvalidRecipe
from modelpress.client.recipe import Flags, read_document, read_recipe
from modelpress.spec.steps import Cubic, Distill, Factorize, OneShot, Prune, RankEnergy, RankNumber

YAML = """
name: slim
seed: 3
steps:
  - kind: distill
    student: {architecture: nin_cifar}
    training: {epochs: 30}
  - {kind: prune, sparsity: 0.75}
"""


def test_yaml_and_json_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(YAML)
    (tmp_path / "job.json").write_text(
        '{"name": "slim", "seed": 3, "steps": [{"kind": "distill", "student": {"architecture": "nin_cifar"}, '
        '"training": {"epochs": 30}}, {"kind": "prune", "sparsity": 0.75}]}'
    )
    document = read_document(tmp_path / "job.yaml")
    assert document == read_document(tmp_path / "job.json")
    recipe = read_recipe(document)
    assert recipe.seed == 3
    assert [step.kind for step in recipe.steps] == ["distill", "prune"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "neither YAML nor JSON"),
        ("- prune", "holds no mapping"),
        ("", "holds no mapping"),
        ("!!python/object/apply:os.getcwd []", "neither YAML nor JSON"),
    ],
)
def test_what_is_no_document_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRecipe, match=message):
        read_document(path)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"kind": "prune", "sparsity": 1.5}, r"^steps\.0\.sparsity: Input should be less than 1$"),
        ({"kind": "prune", "sparsity": 0.5, "colour": 1}, r"^steps\.0\.colour: Extra inputs are not permitted$"),
        (
            {"kind": "factorize", "rank": {"kind": "energy", "value": 2}},
            r"^steps\.0\.rank\.value: .*less than or equal",
        ),
        ({"kind": "squash"}, r"^steps\.0: .*'squash'"),
        (
            {"kind": "prune", "sparsity": 0.5, "schedule": {"kind": "cubic"}},
            r"^steps\.0: a cubic schedule acts during training",
        ),
    ],
)
def test_a_wrong_step_is_named_by_its_place_in_the_file(step: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        read_recipe({"steps": [step]})


def test_flags_are_steps_in_the_order_distill_factorize_prune() -> None:
    flags = Flags(prune=0.75, factorize="energy=0.9", distill="nin_cifar", epochs=7, learning_rate=0.05, teacher=True)
    distill, factorize, prune = read_recipe({"steps": flags.steps()}).steps
    assert isinstance(distill, Distill)
    assert isinstance(factorize, Factorize)
    assert isinstance(prune, Prune)
    assert distill.student.architecture == "nin_cifar"
    assert factorize.rank == RankEnergy(value=0.9)
    assert isinstance(prune.schedule, Cubic)
    assert [step.training.epochs for step in (distill, factorize, prune) if step.training] == [7, 7, 7]
    assert [step.training.learning_rate for step in (distill, factorize, prune) if step.training] == [0.05] * 3
    assert [step.training.teacher for step in (factorize, prune) if step.training] == ["original", "original"]


def test_without_epochs_nothing_but_a_student_is_trained() -> None:
    factorize, prune = read_recipe({"steps": Flags(prune=0.5, factorize="rank=4").steps()}).steps
    assert isinstance(factorize, Factorize)
    assert isinstance(prune, Prune)
    assert (factorize.rank, factorize.training) == (RankNumber(value=4), None)
    assert (prune.schedule, prune.training) == (OneShot(), None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Flags(), "no step: give"),
        (Flags(prune=0.5, teacher=True), "give --epochs"),
        (Flags(prune=0.5, learning_rate=0.1), "give --epochs"),
        (Flags(factorize="0.9"), "write energy=0.9"),
        (Flags(factorize="rank=a"), "'a' is not a number"),
    ],
)
def test_flags_that_mean_nothing_are_refused(flags: Flags, message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        flags.steps()
