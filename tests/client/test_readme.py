"""Everything that the README and the guides say to type is typed here, on the real service."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

import modelpress
from modelpress.client.cli import app
from modelpress.client.recipe import read_recipe
from modelpress.spec.architecture import ARCHITECTURES
from modelpress.spec.config import Config
from modelpress.spec.failure import FailureKind
from modelpress.spec.report import Report
from modelpress.spec.task import ModelFile
from tests.client.conftest import Inputs
from tests.support.field_table import spec_classes, tables, with_tables
from tests.support.markdown import Block, code_blocks, links
from tests.support.service import ROOT, RunningService, child_environment

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs/guide").rglob("*.md"))
RECIPES = [ROOT / "docs/guide/recipes.md", *sorted((ROOT / "docs/guide/methods").glob("*.md"))]
CLIENT = ROOT / "docs/guide/client.md"
MODELS = ROOT / "docs/guide/models-and-data.md"
MARK = "@@@ block of line"


@pytest.fixture
def checkout(tmp_path: Path, user_home: Path, service: RunningService, inputs: Inputs) -> Path:
    """A folder as the README supposes it: after `make demo`, while `make serve` runs."""
    folder = tmp_path / "checkout"
    left = folder / "var/demo/digits"
    left.mkdir(parents=True)
    shutil.copy(inputs.model, left / "model.safetensors")
    shutil.copy(inputs.dataset, left / "digits.npz")
    # The command, as `make` installs it.
    command = folder / ".venv/bin/modelpress"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m modelpress "$@"\n')
    command.chmod(0o755)
    return folder


def _run(checkout: Path, user_home: Path, *command: str) -> str:
    environment = child_environment(HOME=str(user_home))
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def _bash(checkout: Path, user_home: Path, blocks: list[Block], before: str = "") -> dict[int, str]:
    """What each block printed, by its line. Variables live on from block to block."""
    script = "\n".join(
        ["set -euo pipefail", before, *(f'echo "{MARK} {block.line}"\n{block.code}' for block in blocks)]
    )
    parts = _run(checkout, user_home, "bash", "-c", script).split(f"{MARK} ")[1:]
    return {int(part.partition("\n")[0]): part.partition("\n")[2] for part in parts}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's calls need curl")
def test_the_shell_of_the_readme(checkout: Path, user_home: Path) -> None:
    blocks = code_blocks(README)
    printed = _bash(checkout, user_home, [block for block in blocks if block.language == "bash"])
    assert list(printed.values()).count("ready\nready\n") == 1
    assert any(text.endswith("succeeded\n") for text in printed.values())
    by_curl = Report.model_validate_json((checkout / "report.json").read_bytes())
    assert by_curl.ratios.stored_bytes > 3
    for folder in (".", "factorized", "pruned"):
        report = Report.model_validate_json((checkout / folder / "report.json").read_bytes())
        for proof in report.proofs:
            assert (checkout / folder / proof.file).stat().st_size == proof.bytes
        modelpress.load(checkout / folder / "model.mpz")

    # The problem that the README shows is the one that comes.
    shown = next(block for block in blocks if block.language == "json")
    asked = max(line for line in printed if line < shown.line)
    answer, expected = json.loads(printed[asked]), json.loads(shown.code)
    assert answer.keys() == expected.keys()
    answer["request_id"] = expected["request_id"]
    assert answer == expected


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_python_of_the_readme(checkout: Path, user_home: Path) -> None:
    (block,) = (block for block in code_blocks(README) if block.language == "python")
    code = f"{block.code}\nassert network.training is False\nassert len(list(network.parameters())) > 0"
    printed = _run(checkout, user_home, sys.executable, "-W", "error", "-c", code)
    assert "100% done" in printed
    assert "stored_bytes=" in printed


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_examples_of_the_client_guide(
    checkout: Path, user_home: Path, inputs: Inputs, model: object, dataset: object
) -> None:
    shutil.copy(inputs.model, checkout / "model.safetensors")
    # The second block of Python looks at a job that was lost and went on; the third hands the first one's in again.
    python, _, again, bash = (block for block in code_blocks(CLIENT) if block.language)
    printed = _run(checkout, user_home, sys.executable, "-W", "error", "-c", f"{python.code}\n{again.code}")
    assert "result/model.mpz" in printed
    assert "succeeded job_" in printed
    path = next(block for block in code_blocks(README) if block.code.startswith("export PATH="))
    ids = f"MODEL={getattr(model, 'id', '')}; DATASET={getattr(dataset, 'id', '')}"
    (told,) = _bash(checkout, user_home, [bash], f"{path.code}\n{ids}").values()
    assert told.startswith("accepted: distill, prune\nneeds at least ")


def test_what_the_guide_exports_and_saves_is_taken(tmp_path: Path) -> None:
    from modelpress.engine.data.inspect_dataset import inspect_dataset
    from modelpress.engine.original import load_original

    # The network, then the data set; what follows them loads the files of a job.
    for block in [block for block in code_blocks(MODELS) if block.language == "python"][:2]:
        subprocess.run([sys.executable, "-c", block.code], cwd=tmp_path, env=child_environment(), check=True)
    exported = load_original(ModelFile(path="mine.pt2", format="pt2", sha256=""), tmp_path)
    assert exported.description.input_shape == (3, 32, 32)
    assert {"stem", "head"} <= {name for name, _ in exported.module.named_modules()}
    found = inspect_dataset(tmp_path / "data.npz")
    assert (found.classes, found.train_examples, found.image_shape) == (("cat", "dog"), 20, (3, 32, 32))


def test_the_make_targets_of_the_readme_are_there() -> None:
    wanted = {word for block in code_blocks(README) for word in re.findall(r"^make (\w+)", block.code, re.MULTILINE)}
    assert wanted == {"demo", "test", "serve"}
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert wanted <= targets


@pytest.mark.parametrize("path", [README, *GUIDES], ids=lambda path: path.name)
def test_no_link_leads_nowhere(path: Path) -> None:
    missing = [target for target in links(path) if not (path.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_guides_are_valid(path: Path) -> None:
    blocks = code_blocks(path)
    assert blocks
    for block in blocks:
        assert block.language == "yaml"
        assert read_recipe(yaml.safe_load(block.code)).steps, f"{path.name}, line {block.line}"


def test_the_tables_of_the_guides_are_the_codes() -> None:
    for guide in GUIDES:
        assert guide.read_text() == with_tables(guide.read_text()), "run `python -m tests.support.field_table`"


def test_every_part_of_a_recipe_has_a_table() -> None:
    shown = {name for guide in GUIDES for name in tables(guide.read_text())}
    asked_for = {
        name
        for name, spec in spec_classes().items()
        if spec.__module__.startswith(("modelpress.spec.steps.", "modelpress.spec.training", "modelpress.spec.job"))
        and issubclass(spec, Config)
    }
    # Told in a sentence: one field or none.
    assert asked_for - shown <= {name for name in asked_for if len(spec_classes()[name].model_fields) <= 2}


def test_every_architecture_is_in_the_guide() -> None:
    text = MODELS.read_text()
    section = text[text.index("## Architectures") : text.index("### timm")]
    named = [name for name in re.findall(r"`(\w+)`", section) if name not in {"num_classes"}]
    # timm's are too many to name.
    assert sorted(named) == sorted(name for name, entry in ARCHITECTURES.items() if entry.family != "timm")


def test_every_command_is_in_the_guide() -> None:
    group = typer.main.get_command(app)
    commands = set(group.commands)  # type: ignore[attr-defined]  # a group, as the app has commands
    table = CLIENT.read_text().partition("## Command line")[2].partition("Steps come from")[0]
    named = {word.split()[0] for row in table.splitlines() for word in re.findall(r"`([a-z][^`]*)`", row)}
    assert named == commands


def test_the_kinds_of_failure_that_the_readme_names_exist() -> None:
    sentence = README.read_text().partition("A job that fails says why")[2]
    named = re.findall(r"`(\w+)`", sentence.partition("##")[0])
    assert named
    assert set(named) <= {kind.value for kind in FailureKind}


def test_the_problems_that_the_readme_names_exist() -> None:
    from api.errors import KINDS

    rows = re.findall(r"\| (\d{3}) \| `(/problems/[\w-]+)` \|", README.read_text())
    assert len(rows) == 14
    known = {kind.type: kind.status for kind in KINDS.values()}
    assert {problem: known[problem] for _, problem in rows} == {problem: int(status) for status, problem in rows}
