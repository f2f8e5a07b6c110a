"""The documents name files, registries and links that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelpress.spec.architecture import ARCHITECTURES

ROOT = Path(__file__).parent.parent
ROOMS = ("modelpress", "api", "worker", "db", "storage", "service", "tests", "benchmarks", "demo", "docs", "deploy")
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if not re.match(r"https?://|#|mailto:", target):
            assert ((ROOT / document).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_named_files_are_there(document: Path) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w./<>-]*)`", text)
    for name in named:
        if "<" not in name and not name.startswith("benchmarks/results/"):
            assert (ROOT / name).exists(), name


def test_registries_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for registry, module in {
        "METHODS": "modelpress/spec/method.py",
        "STEPS": "modelpress/engine/steps.py",
        "EDITS": "modelpress/engine/network.py",
        "ROUTERS": "api/app.py",
        "KINDS": "api/errors.py",
        "WRITERS": "modelpress/engine/formats/registry.py",
        "READERS": "modelpress/engine/formats/state_dict.py",
        "OPENERS": "storage/open_store.py",
        "BUILDERS": "modelpress/engine/architectures/registry.py",
    }.items():
        assert f"`{registry}`" in text
        assert re.search(rf"^{registry}\b.*[=(]", (ROOT / module).read_text(), flags=re.MULTILINE), registry


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))
    for name in listed:
        number = name[:4]
        assert (folder / name).read_text().startswith(f"# {number} ")


def test_every_benchmark_is_described() -> None:
    text = (ROOT / "benchmarks/README.md").read_text()
    runnable = {
        path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py") if 'if __name__ == "__main__"' in path.read_text()
    } | {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
    assert runnable == set(re.findall(r"^\| `(\w+)` \|", text.partition("## Results")[0], flags=re.MULTILINE))


def test_the_guide_lists_every_architecture_of_our_own() -> None:
    text = (ROOT / "docs/guide/models-and-data.md").read_text().partition("\n## Architectures\n")[2]
    listed = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", text, flags=re.MULTILINE)
    own = [one for one in ARCHITECTURES.values() if one.family == "modelpress"]
    expected = [
        (one.name, one.summary, ", ".join(f"`{name}={value}`" for name, value in one.arguments.items())) for one in own
    ]
    assert listed == expected
