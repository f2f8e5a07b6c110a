"""The client against the real service: API, database, queue, workers and engine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

import modelpress
from demo.digits import ARCHITECTURE
from modelpress.client import (
    ApiError,
    Client,
    JobCancelled,
    JobFailed,
    JobHandle,
    JobUnfinished,
    UploadRejected,
    WaitTimedOut,
)
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import Progress, StateChanged
from modelpress.spec.failure import FailureKind
from modelpress.spec.graph import GraphOutline
from modelpress.spec.job import JobSpec
from modelpress.spec.method import METHODS
from modelpress.spec.network import Preprocessing
from modelpress.spec.recipes import NAMES
from modelpress.spec.report import Ancestor, Origin, Report
from modelpress.spec.resources import Dataset, Model
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.steps import Prune
from tests.client.conftest import HELDOUT_IMAGES, TRAIN_IMAGES, Inputs
from tests.support.archives import picture, write_tar, write_zip, write_zst
from tests.support.cifar import cifar10_binary, cifar10_python, pictures
from tests.support.exported import Photographer, export, trained
from tests.support.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_an_upload_is_ready_when_the_call_returns(model: Model, dataset: Dataset, inputs: Inputs) -> None:
    assert model.state is dataset.state is UploadState.READY
    assert model.sha256 == hashlib.sha256(inputs.model.read_bytes()).hexdigest()
    assert model.inspection is not None
    assert model.inspection.num_classes == 10
    assert model.preprocessing is not None
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.3,), (0.35,))
    assert dataset.inspection is not None
    assert (dataset.inspection.train_examples, dataset.inspection.heldout_examples) == (TRAIN_IMAGES, HELDOUT_IMAGES)


def test_data_sets_of_every_kind_are_sniffed_and_inspected(client: Client, tmp_path: Path) -> None:
    images, labels = pictures(4), [0, 1, 1, 0]
    np.save(tmp_path / "npy.npy", images)
    cells = [picture(place) for place in range(4)]
    parquet.write_table(pyarrow.table({"image": cells, "label": labels}), tmp_path / "parquet")
    batches = {"data_batch_1": (images, labels), "test_batch": (images, labels)}
    write_tar(tmp_path / "cifar_python", cifar10_python(batches))
    write_tar(tmp_path / "cifar_binary", cifar10_binary(batches))
    samples = {f"{place}.png": cell for place, cell in enumerate(cells)}
    write_zst(tmp_path / "webdataset", samples | {f"{place}.cls": b"%d" % label for place, label in enumerate(labels)})
    write_zip(tmp_path / "photos", {**samples, "large.png": picture(size=(20, 20))})
    found = {}
    for file in ("npy.npy", "parquet", "cifar_python", "cifar_binary", "webdataset", "photos"):
        inspection = client.upload_dataset(tmp_path / file).inspection
        assert inspection is not None
        counts = inspection.train_examples, inspection.heldout_examples, len(inspection.classes)
        found[file] = inspection.format, inspection.layout, counts
    assert found == {
        "npy.npy": ("npy", "arrays", (4, None, 0)),
        "parquet": ("parquet", "table", (4, None, 2)),
        "cifar_python": ("tar", "cifar_python", (4, 4, 10)),
        "cifar_binary": ("tar", "cifar_binary", (4, 4, 10)),
        "webdataset": ("tar", "webdataset", (4, None, 2)),
        "photos": ("zip", "image_folders", (5, None, 0)),
    }


def test_a_pickle_that_calls_something_is_rejected_by_its_name(client: Client, tmp_path: Path) -> None:
    files = cifar10_python({}) | {"cifar-10-batches-py/data_batch_1": b"cos\nsystem\n(S'touch /tmp/x'\ntR."}
    with pytest.raises(UploadRejected, match=r"data_batch_1 is a pickle with the name os\.system"):
        client.upload_dataset(write_tar(tmp_path / "file", files))


def test_a_file_that_does_not_fit_its_architecture_is_rejected_with_the_reason(client: Client, inputs: Inputs) -> None:
    with pytest.raises(UploadRejected, match=r"features\.0\.weight") as caught:
        client.upload_model(inputs.model, architecture="vgg13_bn_cifar")
    assert caught.value.upload.failure is not None
    assert caught.value.upload.failure.kind is FailureKind.INVALID_MODEL


def test_what_is_no_model_is_refused_at_once(client: Client, inputs: Inputs, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a model")
    with pytest.raises(ApiError) as caught:
        client.upload_model(path, architecture="nin_cifar")
    assert (caught.value.status, caught.value.problem.type) == (422, "/problems/invalid-model")


def test_uploads_methods_and_architectures_are_listed(client: Client, model: Model, dataset: Dataset) -> None:
    assert model.id in [one.id for one in client.models()]
    assert dataset.id in [one.id for one in client.datasets()]
    assert [method.kind for method in client.methods()] == list(METHODS)
    assert [recipe.name for recipe in client.recipes()] == list(NAMES)
    assert "vgg19_bn_cifar" in [one.name for one in client.architectures()]
    assert client.model(model.id) == model
    assert client.dataset(dataset.id) == dataset


def test_a_job_reports_what_its_downloaded_files_are(finished: JobHandle, tmp_path: Path) -> None:
    assert finished.state is JobState.SUCCEEDED
    paths = finished.download(tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths) == [
        "log.txt",
        "model.mpz",
        "model.safetensors",
        "model_card.md",
        "report.json",
    ]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(path.name for path in paths)
    report = finished.report
    assert Report.model_validate_json((tmp_path / "new/folder/report.json").read_bytes()) == report
    for proof in report.proofs:
        content = (tmp_path / "new/folder" / proof.file).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (proof.bytes, proof.sha256)
    network = modelpress.load(tmp_path / "new/folder/model.mpz")
    assert sum(weight.numel() for weight in network.parameters()) == report.final.parameters
    assert finished.log().strip()


def test_an_artifact_begins_another_job_that_knows_where_it_comes_from(
    client: Client, finished: JobHandle, model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    finished.download(tmp_path)
    artifact = next(one for one in finished.artifacts() if one.kind == "compact")
    again = client.upload_model(tmp_path / artifact.filename)
    assert again.derived_from == Origin(job=finished.id, artifact=artifact.id)
    assert client.model(model.id).derived_from is None
    # What the first job's file says of itself, nobody had to say again.
    assert again.format == "compact"
    assert again.architecture == ARCHITECTURE
    assert again.inspection is not None
    assert again.inspection.network == finished.report.network
    spec = {"steps": [{"kind": "quantize", "bits": 6}], "artifacts": ["compact"]}
    job = client.submit({"model": again.id, "dataset": dataset.id, **spec})
    job.wait(timeout=600)
    report = job.report
    assert report.provenance.lineage == (
        Ancestor(job=finished.id, artifact=artifact.id, sha256=artifact.sha256, model_sha256=model.sha256),
    )
    assert report.provenance.model_sha256 == artifact.sha256
    # The second job began with the first one's result, and kept its zeros.
    assert report.baseline.accuracy == finished.report.final.accuracy
    assert report.final.nonzero_parameters <= finished.report.final.nonzero_parameters


def test_a_network_that_nobody_has_a_name_for_is_compressed(client: Client, dataset: Dataset, tmp_path: Path) -> None:
    path = export(trained(Photographer()), tmp_path / "mine.pt2", torch.randn(2, 1, 32, 32))
    model = client.upload_model(path, mean=(0.3,), std=(0.35,))
    assert model.format == "pt2"
    assert isinstance(model.architecture, GraphOutline)
    assert model.inspection is not None
    assert [layer.name for layer in model.inspection.layers] == ["stem", "body.0.first", "body.2", "head"]
    prune = {"kind": "prune", "sparsity": 0.5}
    quantize = {"kind": "quantize", "bits": 8, "training": {"epochs": 1, "learning_rate": 0.01}}
    job = client.submit(
        {"model": model.id, "dataset": dataset.id, "steps": [prune, quantize], "artifacts": ["compact", "onnx"]}
    )
    job.wait(timeout=600)
    report = job.report
    assert report.ratios.stored_bytes > 2
    job.download(tmp_path / "files")
    network = modelpress.load(tmp_path / "files/model.mpz")
    assert sum(weight.numel() for weight in network.parameters()) == report.final.parameters
    assert network(torch.zeros(3, 1, 32, 32)).shape == (3, 10)


def test_weights_alone_are_refused_without_an_architecture(client: Client, inputs: Inputs) -> None:
    with pytest.raises(ApiError, match="name it with `architecture`"):
        client.upload_model(inputs.model)


def test_an_interrupted_download_is_resumed_from_the_real_service(finished: JobHandle, tmp_path: Path) -> None:
    artifact = next(one for one in finished.artifacts() if one.kind == "safetensors")
    whole = finished.download(tmp_path / "whole")
    content = next(path for path in whole if path.name == artifact.filename).read_bytes()
    folder = tmp_path / "resumed"
    folder.mkdir()
    (folder / f".{artifact.filename}.{artifact.sha256[:12]}.part").write_bytes(content[:1000])
    told: list[int] = []
    finished.download(folder, lambda file, have, size: told.append(have) if file.id == artifact.id else None)
    assert (folder / artifact.filename).read_bytes() == content
    # The first piece came on top of what was there.
    assert told[0] > 1000
    assert told[-1] == artifact.size
    assert len(told) == len(set(told))


def test_events_are_told_from_the_first_to_the_last(finished: JobHandle) -> None:
    events = list(finished.events())
    states = [event.event.state for event in events if isinstance(event.event, StateChanged)]
    assert states[-2:] == ["running", "succeeded"]
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert [event.id for event in finished.events(after=events[-3].id)] == [event.id for event in events[-2:]]


def test_waiting_tells_progress_and_runs_out_without_ending_the_job(
    client: Client, model: Model, dataset: Dataset
) -> None:
    spec = JobSpec(model=model.id, dataset=dataset.id, steps=(Prune(sparsity=0.5),), artifacts=("compact",))
    job = client.submit(spec, reuse=False)
    with pytest.raises(JobUnfinished, match="wait for its end"):
        job.download("nowhere")
    with pytest.raises(JobUnfinished):
        _ = job.report
    with pytest.raises(WaitTimedOut, match="it goes on"):
        job.wait(timeout=0.2)
    told: list[Progress] = []
    assert job.wait(timeout=600, on_progress=told.append).state is JobState.SUCCEEDED
    assert [progress.fraction for progress in told] == sorted(progress.fraction for progress in told)
    assert told[-1].fraction == 1
    assert [artifact.kind for artifact in job.artifacts()] == ["compact", "model_card"]


def test_a_student_goes_on_from_what_was_uploaded(
    client: Client, model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    """Training that hardly moves a weight leaves the uploaded ones, which a student drawn by the seed has not."""
    named = ArchitectureRef(
        architecture="vgg11_bn_cifar", arguments={"num_classes": 10, "in_channels": 1, "width": 0.0625}
    )
    student = build(named)
    save_file(student.state_dict(), tmp_path / "small.safetensors")
    uploaded = client.upload_model(
        tmp_path / "small.safetensors",
        architecture=named.architecture,
        arguments=named.arguments,
        mean=[0.1],
        std=[0.5],
    )
    training = {"epochs": 1, "batch_size": 256, "learning_rate": 1e-7, "weight_decay": 0}
    spec = {
        "model": model.id,
        "dataset": dataset.id,
        "artifacts": ["safetensors"],
        "steps": [{"kind": "distill", "student": {"kind": "uploaded", "model": uploaded.id}, "training": training}],
    }
    client.check(spec)
    job = client.submit(spec)
    with pytest.raises(ApiError, match=job.id):
        client.delete_model(uploaded.id)
    assert job.wait(timeout=600).state is JobState.SUCCEEDED
    client.delete_model(uploaded.id)
    report = job.report
    assert report.provenance.student_sha256 == {uploaded.id: uploaded.sha256}
    assert report.network.architecture == named
    assert report.network.preprocessing == Preprocessing(mean=(0.1,), std=(0.5,))
    job.download(tmp_path / "results")
    written = modelpress.load(tmp_path / "results/model.safetensors")
    for name, weight in student.named_parameters():
        torch.testing.assert_close(written.get_parameter(name), weight, rtol=0, atol=1e-4, msg=name)
    # Another job of it can no longer be asked for.
    with pytest.raises(ApiError) as caught:
        client.submit(spec)
    assert (caught.value.status, caught.value.problem.errors[0].where) == (404, "steps.0.student.model")


def test_the_same_key_names_the_same_job(client: Client, model: Model) -> None:
    spec = {"model": model.id, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    first = client.submit(spec, idempotency_key="twice")
    try:
        assert client.submit(spec, idempotency_key="twice").id == first.id
        with pytest.raises(ApiError) as caught:
            client.submit(spec | {"seed": 1}, idempotency_key="twice")
        assert caught.value.problem.type == "/problems/idempotency-key-reused"
    finally:
        first.cancel()


def test_a_cancelled_job_ends_and_can_be_retried(client: Client, model: Model, dataset: Dataset) -> None:
    steps = [{"kind": "finetune", "training": {"epochs": 10_000}}]
    job = client.submit({"model": model.id, "dataset": dataset.id, "steps": steps})
    assert job.cancel().state in {JobState.CANCELLED, JobState.CANCELLING}
    with pytest.raises(JobCancelled, match="retry"):
        job.wait(timeout=60)
    assert job.retry().state is JobState.QUEUED
    job.cancel()
    with pytest.raises(JobCancelled):
        job.wait(timeout=60)


def test_a_job_that_misses_its_goal_fails_and_keeps_its_files(
    client: Client, model: Model, dataset: Dataset, tmp_path: Path
) -> None:
    job = client.submit(
        {
            "model": model.id,
            "dataset": dataset.id,
            "steps": [{"kind": "prune", "sparsity": 0.5}],
            "artifacts": ["compact"],
            "goal": {"min_compression_ratio": 1000},
        }
    )
    with pytest.raises(JobFailed, match="goal_not_met") as caught:
        job.wait(timeout=600)
    assert caught.value.job.failure is not None
    assert {path.name for path in job.download(tmp_path)} == {"model.mpz", "model_card.md", "report.json", "log.txt"}
    assert job.report.ratios.stored_bytes < 1000


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"steps": [{"kind": "prune", "sparsity": 1.5}]}, "steps.0.sparsity"),
        ({"steps": [{"kind": "prune", "sparsity": 0.5, "colour": "red"}]}, "steps.0.colour"),
        ({"steps": [{"kind": "prune", "sparsity": 0.5, "layers": {"include": ["nose.*"]}}]}, "steps.0.layers"),
        ({"steps": [{"kind": "factorize", "rank": {"kind": "number", "value": 9999}}]}, "steps.0.rank"),
        ({"dataset": None, "steps": [{"kind": "finetune", "training": {}}]}, "steps.0"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_place(
    client: Client, model: Model, dataset: Dataset, change: dict[str, object], where: str
) -> None:
    spec = {"model": model.id, "dataset": dataset.id} | change
    for ask in (client.check, client.submit):
        with pytest.raises(ApiError) as caught:
            ask(spec)
        assert caught.value.status == 422
        assert where in [error.where for error in caught.value.problem.errors]


def test_a_dry_run_fills_in_the_defaults_and_makes_no_job(client: Client, model: Model) -> None:
    before = [job.id for job in client.jobs()]
    check = client.check({"model": model.id, "steps": [{"kind": "prune", "sparsity": 0.5}]})
    assert check.spec.steps == (Prune(sparsity=0.5),)
    assert [job.id for job in client.jobs()] == before


def test_jobs_are_listed_by_state_and_model(client: Client, finished: JobHandle, model: Model) -> None:
    assert finished.id in [job.id for job in client.jobs(state=JobState.SUCCEEDED, model=model.id)]
    assert finished.id not in [job.id for job in client.jobs(state="failed")]
    assert list(client.jobs(model="mdl_nobody")) == []


def test_a_model_is_deleted(client: Client, inputs: Inputs) -> None:
    model = client.upload_model(
        inputs.model, architecture=ARCHITECTURE.architecture, arguments=ARCHITECTURE.arguments, name="short-lived"
    )
    client.delete_model(model.id)
    with pytest.raises(ApiError) as caught:
        client.model(model.id)
    assert caught.value.status == 404


def test_a_job_is_deleted(client: Client, model: Model) -> None:
    job = client.submit({"model": model.id, "steps": [{"kind": "prune", "sparsity": 0.25}], "artifacts": ["onnx"]})
    job.wait(timeout=600)
    client.delete_job(job.id)
    for ask in (job.refresh, job.log, job.artifacts, lambda: client.delete_job(job.id)):
        with pytest.raises(ApiError) as caught:
            ask()
        assert caught.value.status == 404
    assert job.id not in [each.id for each in client.jobs()]


def test_a_wrong_key_is_told_so(service: RunningService) -> None:
    with Client(service.url, "mp_wrong") as client, pytest.raises(ApiError) as caught:
        client.methods()
    assert caught.value.status == 401
    assert "mp_wrong" not in str(caught.value)


def test_a_report_is_what_the_service_says(finished: JobHandle, client: Client) -> None:
    again = client.job(finished.id)
    assert json.loads(again.report.model_dump_json()) == json.loads(finished.report.model_dump_json())
