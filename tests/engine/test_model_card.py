"""The model card, against the report that it is of and the files that it says how to load."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.engine.formats.registry import CONVERTERS, QUANTIZERS, WRITERS
from modelpress.engine.model_card import model_card
from modelpress.spec.job import ARTIFACT_FILES, ArtifactKind
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Accuracy, Agreement, Ancestor, ArtifactProof, FileRatios, Latency, Report
from tests.support.networks import describe, network
from tests.support.reports import a_report

PREPROCESSING = Preprocessing(mean=(0.25, 0.5, 0.75), std=(0.5, 0.25, 0.125))


def _proof(kind: ArtifactKind) -> ArtifactProof:
    return ArtifactProof(
        kind=kind.value,
        file=ARTIFACT_FILES[kind].filename,
        bytes=1_234_567,
        sha256=f"{list(ArtifactKind).index(kind)}" * 64,
        largest_difference=0.00012,
        tolerance=0.003,
        accuracy=Accuracy(top1=0.8765, top5=1.0, loss=0.1, examples=100),
        agreement=Agreement(top1=0.9321, kl=0.1, examples=100),
        ratios=FileRatios(stored_bytes=4.2, latency=2.5, accuracy_retention=0.974),
    )


def _report(**more: object) -> Report:
    description = describe("snn_1k").model_copy(update={"preprocessing": PREPROCESSING, "classes": ("cat", "dog")})
    about: dict[str, object] = {"network": description, "proofs": tuple(map(_proof, ArtifactKind)), **more}
    return a_report().model_copy(update=about)


def _blocks(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)


def _rows(card: str, heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its headings."""
    section = card.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in table][2:]


def test_figures_and_files_are_those_of_the_report() -> None:
    latency = Latency(runtime="onnxruntime", threads=1, batch=1, p50_ms=0.8, p90_ms=1)
    report = _report()
    report = report.model_copy(update={"final": report.final.model_copy(update={"latencies": (latency,)})})
    card = model_card(report)
    figures = {name: cells for name, *cells in _rows(card, "Figures")}
    assert figures["parameters that are not zero"][:2] == ["1 k", "250"]
    assert figures["smallest file"][:2] == ["4 kB", "1.1 kB"]
    assert figures["top-1 accuracy"][0] == "90.00%"
    assert figures["latency of an image, ONNX Runtime, one thread"][:2] == ["2 ms", "0.8 ms"]
    files = {name: cells for name, *cells in _rows(card, "Files")}
    assert list(files) == [f"`{file.filename}`" for file in ARTIFACT_FILES.values()]
    same = ["1,234,567", "4.2x", "87.65%", "97.4%", "93.21%"]
    assert files["`model.onnx`"] == [*same, "0.8 ms", "2.5x", "0.00012 of 0.003"]
    assert files["`model.mpz`"] == [*same, "-", "2.5x", "0.00012 of 0.003"]


def test_the_recipe_and_the_classes_can_be_read_back() -> None:
    report = _report()
    classes, recipe, facts = map(json.loads, _blocks(model_card(report), "json"))
    assert type(report.provenance.recipe).model_validate(recipe) == report.provenance.recipe
    assert classes == ["cat", "dog"]
    assert facts["versions"] == report.provenance.versions


def test_hashes_and_lineage_say_where_it_comes_from() -> None:
    report = _report()
    ancestor = Ancestor(job="job_1", artifact="art_1", sha256="a" * 64, model_sha256="b" * 64)
    origin = report.provenance.model_copy(update={"lineage": (ancestor,), "model_sha256": "a" * 64})
    rows = _rows(model_card(report.model_copy(update={"provenance": origin})), "Where it comes from")
    assert rows[:2] == [
        ["original model", f"`{'a' * 64}`"],
        ["which is artifact `art_1` of job `job_1`, made of", f"`{'b' * 64}`"],
    ]
    assert ["`model.onnx`", f"`{'3' * 64}`"] in rows


def test_names_of_a_stranger_stay_text() -> None:
    classes = ("```\n# owned", "<script>alert(1)</script>")
    report = _report(warnings=("the class [x](http://evil) <b>\n# is | odd",))
    report = report.model_copy(update={"network": report.network.model_copy(update={"classes": classes})})
    card = model_card(report)
    assert json.loads(_blocks(card, "json")[0]) == list(classes)
    assert "# owned" not in card.splitlines()
    assert card.endswith("- the class \\[x](http://evil) &lt;b> # is \\| odd\n")


@pytest.mark.slow
def test_its_code_loads_and_runs_each_file(tmp_path: Path) -> None:
    kinds = [kind for kind, file in ARTIFACT_FILES.items() if file.extra is None or find_spec(file.extra) is not None]
    made = network(_report().network)
    images = torch.zeros(1, 3, 32, 32)
    for channel, (mean, std) in enumerate(zip(PREPROCESSING.mean, PREPROCESSING.std, strict=True)):
        images[:, channel] = (0 - mean) / std
    for kind in kinds:
        path = tmp_path / ARTIFACT_FILES[kind].filename
        if kind in WRITERS:
            WRITERS[kind](made, path)
        elif kind in CONVERTERS:
            CONVERTERS[kind](tmp_path / "model.onnx", path)
        else:
            QUANTIZERS[kind](tmp_path / "model.onnx", path, [images])
    first, *loading = _blocks(model_card(_report(proofs=tuple(map(_proof, kinds)))), "python")
    assert len(loading) == len(kinds)
    script = "found = []\n" + first + "".join(f"{block}found.append(torch.as_tensor(scores))\n" for block in loading)
    script += 'assert set(weights) == set(network.state_dict())\ntorch.save((images, found), "found.pt")\n'
    # The code is the card's own, made above.
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    given, found = torch.load(tmp_path / "found.pt", weights_only=True)
    torch.testing.assert_close(given, images)
    with torch.inference_mode():
        expected = made.module(images)
    for kind, scores in zip(kinds, found, strict=True):
        tolerance = 0.2 if kind is ArtifactKind.ONNX_INT8 else 1e-4
        assert float((scores - expected).abs().max()) <= tolerance * float(np.abs(expected.numpy()).max()), kind
