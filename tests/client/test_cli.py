"""The command `modelpress`: exit codes, one clear line for an error, and each command against the real service."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

import modelpress
from demo.digits import ARCHITECTURE
from modelpress.client import Client, JobCancelled, JobHandle
from modelpress.client.cli import app, run, screen
from modelpress.spec.needs import Needs
from modelpress.spec.recipes import ready_recipe
from modelpress.spec.report import Report
from modelpress.spec.resources import Dataset, Model
from modelpress.spec.state import JobState
from tests.client.conftest import HELDOUT_IMAGES, Inputs
from tests.support.service import ROOT, RunningService, child_environment

COMPRESS = ["compress", "README.md", "-a", "nin_cifar", "-o", "x", "--prune", "0.5"]
NAMED = ["--architecture", ARCHITECTURE.architecture, "--arguments", json.dumps(ARCHITECTURE.arguments)]


@pytest.fixture
def here(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> RunningService:
    """This process's user has the service's data folder."""
    monkeypatch.setenv("MODELPRESS_HOME", str(service.home))
    monkeypatch.delenv("MODELPRESS_URL", raising=False)
    monkeypatch.delenv("MODELPRESS_API_KEY", raising=False)
    return service


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no service."""
    monkeypatch.setenv("MODELPRESS_HOME", str(tmp_path))
    monkeypatch.delenv("MODELPRESS_URL", raising=False)


class TestWithoutAService:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["--version"]) == 0
        assert capsys.readouterr().out == f"modelpress {modelpress.__version__}\n"

    def test_as_a_module_it_is_the_same_and_loads_no_torch(self) -> None:
        script = "import sys, runpy; sys.argv = ['modelpress', '--version']\n" + (
            "try: runpy.run_module('modelpress', run_name='__main__')\nfinally: assert 'torch' not in sys.modules"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=child_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"modelpress {modelpress.__version__}\n"

    def test_every_command_has_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        for words in _commands():
            assert run([*words, "--help"]) == 0
            assert "Usage: modelpress" in capsys.readouterr().out

    @pytest.mark.usefixtures("nowhere")
    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["jobs"], 1, "no service is known: start one with `make serve`"),
            (["jobs", "--url", "http://127.0.0.1:1"], 1, "no API key is known"),
            (["jbos"], 2, "No such command 'jbos'"),
            (["jobs", "--state", "happy"], 2, "'happy' is not one of"),
            (["watch"], 2, "Missing argument 'JOB'"),
            (["delete"], 2, "Missing argument 'ID...'"),
            (["delete", "job_1", "art_2"], 2, "'art_2' is the id of no job (job_...), model (mdl_...) or data set"),
            (["submit"], 2, "no step: give a recipe's file"),
            (["submit", "nothing.yaml"], 2, "'nothing.yaml' is neither a file nor a ready recipe"),
            (["submit", "README.md", "--prune", "0.5"], 2, "from a recipe or from flags, not from both"),
            (["submit", "--prune", "0.5", "--teacher"], 2, "give --epochs"),
            (["recipes", "cake"], 2, "there is no recipe 'cake'; there are slimnets, smallest"),
            (["upload", "model", "README.md", "-a", "nin_cifar", "--arguments", "{"], 2, "--arguments is not JSON"),
            (["upload", "model", "README.md", "-a", "nin_cifar", "--mean", "0.5"], 2, "give both or neither"),
            (["upload", "model", "README.md", "-a", "nin_cifar", "--resize", "9"], 2, "give --mean and --std with it"),
            (["submit", "--prune", "0.5", "--memory", "much"], 2, "--memory 'much': write a size such as 16GiB"),
            ([*COMPRESS, "--mean", "0", "--std", "1", "--resize", "9px"], 2, "--resize '9px': it must be `stretch`"),
            (["compress", "README.md", "-a", "nin", "-o", "x", "--prune", "0.5"], 2, "did you mean nin_cifar"),
            (["compress", "README.md", "-a", "nin_cifar", "-o", "x", "--prune", "1.5"], 2, "steps.0.sparsity"),
            ([*COMPRESS, "--student", "README.md:nin_cifar"], 2, "write NAME=FILE:ARCHITECTURE"),
            ([*COMPRESS, "--student", "s=nothing.pt:nin_cifar"], 2, "--student s: there is no file nothing.pt"),
            ([*COMPRESS, "--student", "s=README.md:nin"], 2, "did you mean nin_cifar"),
            ([*COMPRESS, "--student", "s=README.md:timm/resnet18"], 2, "no step of the recipe has the student"),
            ([*COMPRESS, "--student", "s=a:b/resnet18"], 2, "there is no file a:b/resnet18"),
            ([*COMPRESS, "--student", "s=README.md:nin_cifar:{}}"], 2, "--student s is not JSON"),
            ([*COMPRESS, *["--student", "s=README.md:nin_cifar"] * 2], 2, "--student s was given twice"),
            ([*COMPRESS, "--student", "s=README.md:nin_cifar"], 2, "no step of the recipe has the student"),
        ],
    )
    def test_what_is_wrong_is_one_line(
        self,
        words: list[str],
        code: int,
        said: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(ROOT)
        assert run(words) == code
        captured = capsys.readouterr()
        assert said in captured.err
        assert captured.err.startswith("modelpress: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""

    def test_durations_are_short(self) -> None:
        assert list(map(screen.duration, (7.34, 312, 11_100))) == ["7.3 s", "5 min 12 s", "3 h 5 min"]

    def test_ready_recipes_are_listed_and_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["recipes"]) == 0
        assert "slimnets" in capsys.readouterr().out
        assert run(["recipes", "slimnets"]) == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed == ready_recipe("slimnets").recipe
        assert run(["recipes", "slimnets", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["recipe"] == printed


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestOnTheService:
    def test_upload_prints_the_id_alone(
        self, here: RunningService, inputs: Inputs, client: Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["upload", "model", str(inputs.model), *NAMED, "--mean", "0.3", "--std", "0.35", "--name", "x"]) == 0
        captured = capsys.readouterr()
        model = client.model(captured.out.strip())
        assert model.name == "x"
        assert model.preprocessing is not None
        assert (model.preprocessing.mean, model.preprocessing.std) == ((0.3,), (0.35,))
        assert "ready: vgg13_bn_cifar" in captured.err
        assert run(["upload", "dataset", str(inputs.dataset), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["inspection"]["heldout_examples"] == HELDOUT_IMAGES

    def test_a_rejected_upload_fails_with_its_reason(
        self, here: RunningService, inputs: Inputs, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["upload", "model", str(inputs.model), "--architecture", "nin_cifar"]) == 1
        assert capsys.readouterr().err.startswith("modelpress: ")

    def test_lists(
        self,
        here: RunningService,
        model: Model,
        dataset: Dataset,
        finished: JobHandle,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        for command, item_id in (("models", model.id), ("datasets", dataset.id), ("jobs", finished.id)):
            assert run([command]) == 0
            assert item_id in capsys.readouterr().out
            assert run([command, "--json"]) == 0
            assert item_id in [item["id"] for item in json.loads(capsys.readouterr().out)]
        assert run(["methods"]) == 0
        assert "factorize" in capsys.readouterr().out
        assert run(["architectures", "--json"]) == 0
        assert "nin_cifar" in [entry["name"] for entry in json.loads(capsys.readouterr().out)]
        assert run(["architectures", "--family", "timm", "--json"]) == 0
        assert {entry["family"] for entry in json.loads(capsys.readouterr().out)} == {"timm"}

    def test_a_model_is_shown(self, here: RunningService, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["model", model.id, "--layers"]) == 0
        shown = capsys.readouterr().out
        for part in ("input 1 x 32 x 32", "output 10", "BatchNorm2d", "features.0", "prune(sparsity=0.9)", "of fp32"):
            assert part in shown
        assert run(["model", model.id, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["inspection"]["output_shape"] == [10]

    def test_a_finished_job_is_shown_and_fetched(
        self,
        here: RunningService,
        finished: JobHandle,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assert run(["watch", finished.id]) == 0
        assert "original" in capsys.readouterr().out
        assert run(["report", finished.id]) == 0
        assert f"{finished.report.ratios.stored_bytes:.3g}x" in capsys.readouterr().out
        assert run(["report", finished.id, "--json"]) == 0
        assert Report.model_validate_json(capsys.readouterr().out) == finished.report
        assert run(["log", finished.id]) == 0
        assert capsys.readouterr().out.strip()
        assert run(["download", finished.id, str(tmp_path)]) == 0
        assert sorted(capsys.readouterr().out.split()) == sorted(map(str, tmp_path.iterdir()))
        monkeypatch.chdir(tmp_path)  # beside files of the same names, which may be somebody's own
        assert run(["download", finished.id]) == 0
        assert sorted(capsys.readouterr().out.split()) == sorted(
            f"{finished.id}/{p.name}" for p in tmp_path.glob("*.*")
        )

    def test_the_same_job_again_is_not_run(
        self,
        here: RunningService,
        client: Client,
        model: Model,
        dataset: Dataset,
        finished: JobHandle,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            yaml.safe_dump(finished.resource.spec.model_dump(mode="json", include={"steps", "artifacts"}))
        )
        words = ["submit", str(recipe), "--model", model.id, "--dataset", dataset.id]
        assert run([*words, "--dry-run"]) == 0
        assert f"given the result of {finished.id}" in capsys.readouterr().out
        assert run([*words, "--dry-run", "--no-reuse"]) == 0
        assert finished.id not in capsys.readouterr().out
        assert run([*words, "--name", "again"]) == 0
        said = capsys.readouterr()
        assert f"not run: it has the result of {finished.id}" in said.err
        job = client.job(said.out.strip())
        assert job.state is JobState.SUCCEEDED
        assert run(["report", job.id]) == 0
        assert f"not run: it has the result of {finished.id}" in capsys.readouterr().out
        assert run(["job", job.id]) == 0
        assert f"again  succeeded\nnot run: it has the result of {finished.id}" in capsys.readouterr().out
        own, other = ({path.name: path for path in handle.download(tmp_path / handle.id)} for handle in (job, finished))
        assert own["model.mpz"].read_bytes() == other["model.mpz"].read_bytes()
        forced = client.check(finished.resource.spec, reuse=False)
        assert forced.reused_from is None

    def test_the_attempts_of_a_job_are_shown(
        self, here: RunningService, finished: JobHandle, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["job", finished.id]) == 0
        shown = capsys.readouterr().out
        (attempt,) = finished.refresh().attempts
        assert attempt.seconds is not None
        for part in (finished.id, "slim", "succeeded", attempt.worker, screen.duration(attempt.seconds)):
            assert part in shown
        assert run(["job", finished.id, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["attempts"][0]["worker"] == attempt.worker

    def test_a_job_that_is_waited_for_can_be_printed_for_machines(
        self,
        here: RunningService,
        finished: JobHandle,
        model: Model,
        dataset: Dataset,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        recipe = tmp_path / "recipe.yaml"
        words = ["submit", str(recipe), "--model", model.id, "--dataset", dataset.id, "--wait", "--json"]
        recipe.write_text("steps: [{kind: prune, sparsity: 0.75}]\nartifacts: [compact, safetensors]\n")
        assert run(words) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["state"], shown["reused_from"]) == ("succeeded", finished.id)
        # Also where it fails.
        recipe.write_text(f"{recipe.read_text()}goal: {{min_compression_ratio: 1000}}\n")
        assert run(words) == 1
        captured = capsys.readouterr()
        assert json.loads(captured.out)["state"] == "failed"
        assert "at least 1000 was asked for" in captured.err

    def test_a_folder_that_cannot_be_written_to_is_one_line(
        self, here: RunningService, finished: JobHandle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_bytes(b"mine")
        assert run(["download", finished.id, str(tmp_path / "file")]) == 1
        captured = capsys.readouterr()
        assert captured.err == f"modelpress: cannot write into {tmp_path / 'file'}: File exists\n"
        assert (tmp_path / "file").read_bytes() == b"mine"

    def test_jobs_models_and_data_sets_are_deleted(
        self, here: RunningService, client: Client, inputs: Inputs, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = client.upload_model(
            inputs.model, architecture=ARCHITECTURE.architecture, arguments=ARCHITECTURE.arguments
        )
        dataset = client.upload_dataset(inputs.dataset)
        job = client.submit(
            {
                "model": model.id,
                "dataset": dataset.id,
                "steps": [{"kind": "finetune", "training": {"epochs": 10_000}}],
            }
        )
        assert run(["delete", job.id, model.id]) == 1
        captured = capsys.readouterr()
        assert "cannot be deleted: wait for its end, or cancel it first" in captured.err
        assert captured.out == ""
        job.cancel()
        with pytest.raises(JobCancelled):
            job.wait(timeout=60)
        assert run(["delete", job.id, model.id, dataset.id]) == 0
        assert capsys.readouterr().out.splitlines() == [job.id, model.id, dataset.id]
        # Once more, as after a list that was broken off: what is left is deleted all the same.
        left = client.upload_dataset(inputs.dataset)
        assert run(["delete", job.id, left.id]) == 1
        captured = capsys.readouterr()
        assert f"there is no job '{job.id}'" in captured.err
        assert captured.out.splitlines() == [left.id]

    def test_a_file_is_submitted_with_what_flags_add(
        self,
        here: RunningService,
        client: Client,
        model: Model,
        dataset: Dataset,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("seed: 1\nneeds: {device: cpu}\nsteps:\n- {kind: finetune, training: {epochs: 10000}}\n")
        words = ["submit", str(recipe), "--model", model.id, "--dataset", dataset.id, "--seed", "5", "--name", "long"]
        words += ["--cores", "1", "--memory", "0.5MiB", "--wait-limit", "900"]
        assert run([*words, "--dry-run"]) == 0
        accepted, needed = capsys.readouterr().out.splitlines()
        assert accepted == "accepted: finetune"
        assert needed.startswith("needs at least ")
        assert run(words) == 0
        job = client.job(capsys.readouterr().out.strip())
        spec = job.resource.spec
        assert (spec.seed, job.resource.name, spec.model, spec.wait_limit_seconds) == (5, "long", model.id, 900)
        assert spec.needs == Needs(device="cpu", cores=1, memory_bytes=1 << 19)  # the device is the file's
        assert run(["cancel", job.id]) == 0
        assert capsys.readouterr().out.strip() in {"cancelled", "cancelling"}
        assert run(["watch", job.id]) == 1
        assert "was cancelled" in capsys.readouterr().err
        assert run(["retry", job.id]) == 0
        assert capsys.readouterr().out == "queued\n"
        assert run(["cancel", job.id]) == 0

    def test_ctrl_c_leaves_the_job_running(
        self, here: RunningService, client: Client, model: Model, dataset: Dataset
    ) -> None:
        steps = [{"kind": "finetune", "training": {"epochs": 10_000}}]
        job = client.submit({"model": model.id, "dataset": dataset.id, "steps": steps})
        watching = subprocess.Popen(
            [sys.executable, "-m", "modelpress", "watch", job.id],
            cwd=ROOT,
            env=child_environment(MODELPRESS_HOME=str(here.home)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert watching.stderr is not None
            watching.stderr.readline()  # it has begun to watch
            watching.send_signal(signal.SIGINT)
            _, said = watching.communicate(timeout=60)
            assert watching.returncode == 130
            assert f"{job.id} goes on" in said
            assert "Traceback" not in said
            assert client.job(job.id).state in {JobState.QUEUED, JobState.RUNNING}
        finally:
            watching.kill()
            job.cancel()

    def test_what_does_not_fit_is_one_line(
        self, here: RunningService, model: Model, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["submit", "--model", model.id, "--prune", "0.5", "--epochs", "1"]) == 1
        captured = capsys.readouterr()
        assert "steps.0" in captured.err
        assert "needs a data set" in captured.err
        assert captured.err.count("\n") == 1


def _commands() -> list[list[str]]:
    group = typer.main.get_command(app)
    found: list[list[str]] = [[]]
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # a group, as the app has commands
        found.append([name])
        found += [[name, inner] for inner in getattr(command, "commands", ())]
    return found
