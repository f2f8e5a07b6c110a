"""`modelpress compress`: the engine alone, without a service."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import modelpress
from demo.digits import ARCHITECTURE
from modelpress.client import ModelPressError, compress
from modelpress.client.cli import run
from modelpress.client.compress import model_format
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.network import Preprocessing
from modelpress.spec.report import Report
from tests.client.conftest import Inputs
from tests.support.service import ROOT, child_environment

NAMED = ["--architecture", ARCHITECTURE.architecture, "--arguments", json.dumps(ARCHITECTURE.arguments)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_files_and_report_are_in_the_output(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "out"
    words = ["compress", str(inputs.model), *NAMED, "--dataset", str(inputs.dataset), "-o", str(output)]
    assert run([*words, "--prune", "0.75", "--mean", "0.3", "--std", "0.35", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    report = Report.model_validate_json((output / "report.json").read_bytes())
    assert f"{report.ratios.stored_bytes:.3g}x" in captured.out
    assert "verification" in captured.err
    assert {path.name for path in output.iterdir()} == {
        "log.txt",
        "model.int8.onnx",
        "model.mpz",
        "model_card.md",
        "model.onnx",
        "model.pt2",
        "model.safetensors",
        "report.json",
    }
    for proof in report.proofs:
        assert hashlib.sha256((output / proof.file).read_bytes()).hexdigest() == proof.sha256
    assert report.provenance.model_sha256 == hashlib.sha256(inputs.model.read_bytes()).hexdigest()
    convolution = modelpress.load(output / "model.mpz").get_submodule("features.3")
    assert isinstance(convolution, torch.nn.Conv2d)
    assert bool((convolution.weight == 0).any())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_student_begins_as_a_local_file(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = {"num_classes": 10, "in_channels": 1, "width": 0.0625}
    student = build(ArchitectureRef(architecture="vgg11_bn_cifar", arguments=arguments))
    file = tmp_path / "a:b=c.pt"  # nobody else's signs
    torch.save(student.state_dict(), file)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "artifacts: [safetensors]\n"
        "steps:\n"
        "  - kind: distill\n"
        "    student: {kind: uploaded, model: small}\n"
        "    training: {epochs: 1, batch_size: 256, learning_rate: 0.0000001, weight_decay: 0}\n"
    )
    output = tmp_path / "out"
    words = ["compress", str(inputs.model), *NAMED, "--dataset", str(inputs.dataset), "-o", str(output), "--json"]
    words += ["--mean", "0.3", "--std", "0.35", "--recipe", str(recipe)]
    assert run(words) == 2
    assert "steps.0.student.model: 'small' has no file" in capsys.readouterr().err
    assert run([*words, "--student", f"small={file}:vgg11_bn_cifar:{json.dumps(arguments)}"]) == 0
    report = Report.model_validate_json(capsys.readouterr().out)
    assert report.provenance.student_sha256 == {"small": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert report.network.preprocessing == Preprocessing(mean=(0.3,), std=(0.35,))
    written = modelpress.load(output / "model.safetensors")
    for name, weight in student.named_parameters():
        torch.testing.assert_close(written.get_parameter(name), weight, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_failure_is_one_line_and_leaves_the_log(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text("of an earlier run")
    words = ["compress", str(inputs.model), "-a", "nin_cifar", "-o", str(tmp_path), "--prune", "0.5"]
    assert run(words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("modelpress: invalid_model: ")
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_ends_the_command_ends_the_engine_too(inputs: Inputs, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{steps: [{kind: finetune, training: {epochs: 10000}}], artifacts: [compact]}")
    words = ["compress", str(inputs.model), *NAMED, "--dataset", str(inputs.dataset), "-o", str(tmp_path / "out")]
    running = subprocess.Popen(
        [sys.executable, "-m", "modelpress", *words, "--recipe", str(recipe)],
        cwd=ROOT,
        env=child_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    while "step 1/1" not in running.stderr.readline():
        assert running.poll() is None
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    assert len(children) == 1
    running.send_signal(signal.SIGHUP)  # as a terminal does that closes
    assert running.wait(60) == 130
    running.stderr.close()
    deadline = time.monotonic() + 10
    while _alive(int(children[0])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["log.txt"]


def test_options_say_what_the_engine_computes_on(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = []

    def take(work: Path, _on_event: object) -> int:
        tasks.append(json.loads((work / "task.json").read_text()))
        return 3

    monkeypatch.setattr(compress, "_run", take)
    words = ["compress", str(inputs.model), *NAMED, "-o", str(tmp_path / "out"), "--prune", "0.5"]
    assert run([*words, "--device", "cpu", "--threads", "3", "--processes", "2"]) == 1
    assert run(words) == 1
    asked = [(task["device"], task["threads"], task["processes"]) for task in tasks]
    assert asked == [("cpu", 3, 2), ("auto", None, None)]


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, inputs: Inputs, tmp_path: Path) -> None:
    find = compress.importlib.util.find_spec
    monkeypatch.setattr(compress.importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    with pytest.raises(ModelPressError, match=r'pip install "modelpress\[engine\]"'):
        compress.require_engine()


def test_an_output_that_is_a_file_is_refused(inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compress", str(inputs.model), *NAMED, "-o", str(inputs.dataset), "--prune", "0.5"]
    assert run(words) == 1
    assert "cannot write into" in capsys.readouterr().err


def test_the_format_is_told_by_content(inputs: Inputs, tmp_path: Path) -> None:
    assert model_format(inputs.model) == "safetensors"
    torch.save({"weight": torch.zeros(1)}, tmp_path / "misnamed.safetensors")
    assert model_format(tmp_path / "misnamed.safetensors") == "pt"
    (tmp_path / "empty").touch()
    assert model_format(tmp_path / "empty") == "pt"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_file_that_was_given_is_overwritten(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "model.safetensors"
    shutil.copy(inputs.model, mine)
    assert run(["compress", str(mine), *NAMED, "-o", str(tmp_path / "x" / ".."), "--prune", "0.5"]) == 1
    assert "would be overwritten by a result of that name: choose another folder" in capsys.readouterr().err
    link = tmp_path / "elsewhere" / "mine.onnx"
    link.parent.mkdir()
    link.symlink_to(mine)
    assert run(["compress", str(link), *NAMED, "-o", str(tmp_path), "--prune", "0.5"]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    link.unlink()
    link.parent.rmdir()
    assert mine.read_bytes() == inputs.model.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
