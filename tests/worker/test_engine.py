"""The real engine under real workers: an upload inspected, a network pruned, its files in the store."""

from __future__ import annotations

import os
import signal

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file, save_file

import modelpress
from db.models import Dataset, Model
from db.queries.checkpoints import checkpoint_of
from db.queries.jobs import artifacts, attempts, create_job, events_after, get_job, get_report
from db.queries.uploads import create_dataset, create_model, get_dataset, get_model
from modelpress.engine.network import build
from modelpress.spec.architecture import ArchitectureRef
from modelpress.spec.event import StageDone
from modelpress.spec.job import ArtifactKind, JobSpec
from modelpress.spec.state import JobState, UploadState
from modelpress.spec.steps import Cubic, Prune
from modelpress.spec.training import Recovery
from tests.support.patience import SHORT_LEASE_SECONDS
from tests.worker.conftest import wait_for

SMALL = ArchitectureRef(architecture="vgg11_bn_cifar", arguments={"width": 0.0625, "num_classes": 3})
SECONDS = 200


def _upload(site, path) -> tuple[str, int]:
    stored = site.store.put_file(path)
    return stored.sha256, stored.size


def _model(site, path) -> Model:
    sha256, size = _upload(site, path)
    with site.database.session() as session:
        return create_model(
            session,
            site.tenant.team_id,
            name="small",
            format="safetensors",
            architecture=SMALL,
            image_size=None,
            preprocessing=None,
            sha256=sha256,
            size=size,
        )


def _dataset(site, path) -> Dataset:
    sha256, size = _upload(site, path)
    with site.database.session() as session:
        return create_dataset(session, site.tenant.team_id, name="noise", sha256=sha256, size=size)


def _inspected(site, get, row):
    def look():
        with site.database.session(read_only=True) as session:
            return get(session, site.tenant.team_id, row.id)

    wait_for(lambda: look().state is not UploadState.INSPECTING, "the inspection", seconds=SECONDS, explain=site.log)
    return look()


@pytest.mark.slow
def test_from_upload_to_files(embedded_site, tmp_path):
    """tests/deployment/test_production.py does so with PostgreSQL, Redis and S3."""
    site = embedded_site
    save_file(build(SMALL).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(60) % 3)
    model, broken = _model(site, tmp_path / "model.safetensors"), _model(site, tmp_path / "broken.safetensors")
    dataset = _dataset(site, tmp_path / "noise.npz")

    with site.start_worker("inspections", threads=1):
        rejected = _inspected(site, get_model, broken)
        assert rejected.state is UploadState.REJECTED
        assert rejected.failure.kind == "invalid_model"
        ready = _inspected(site, get_model, model)
        assert ready.state is UploadState.READY, ready.failure
        assert ready.inspection.num_classes == 3
        images_ready = _inspected(site, get_dataset, dataset)
        assert images_ready.state is UploadState.READY, images_ready.failure
        assert images_ready.inspection.train_examples == 60

    spec = JobSpec(
        model=model.id, dataset=dataset.id, steps=(Prune(sparsity=0.75),), artifacts=("compact", "safetensors")
    )
    with site.database.session() as session:
        job, _created = create_job(session, site.tenant.team_id, spec)
    with site.start_worker(threads=1):

        def look():
            with site.database.session(read_only=True) as session:
                return get_job(session, site.tenant.team_id, job.id)

        wait_for(lambda: look().state.final, "the job", seconds=SECONDS, explain=site.log)
    assert look().state is JobState.SUCCEEDED, look().failure
    with site.database.session(read_only=True) as session:
        files = {file.filename: file.sha256 for file in artifacts(session, job.id)}
    assert set(files) == {"model.mpz", "model.safetensors", "model_card.md", "log.txt"}
    for name in ("model.mpz", "model.safetensors"):
        site.store.fetch(files[name], tmp_path / f"downloaded-{name}")
    weights = load_file(tmp_path / "downloaded-model.safetensors")["features.0.weight"]
    loaded = modelpress.load(tmp_path / "downloaded-model.mpz").state_dict()["features.0.weight"]
    assert loaded.equal(weights)
    assert (weights == 0).any()


def _engine_of(worker) -> int:
    """The engine's process: below the launcher, which is below the zygote, which is below the worker."""
    return psutil.Process(worker.pid).children()[0].children()[0].children()[0].pid


@pytest.mark.slow
def test_a_training_that_was_broken_off_twice_comes_to_the_same_file(embedded_site, tmp_path):
    site = embedded_site
    save_file(build(SMALL).state_dict(), tmp_path / "model.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (1200, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", images=images, labels=np.arange(1200) % 3)
    model, dataset = _model(site, tmp_path / "model.safetensors"), _dataset(site, tmp_path / "noise.npz")
    with site.start_worker("inspections", threads=1):
        assert _inspected(site, get_model, model).state is UploadState.READY
        assert _inspected(site, get_dataset, dataset).state is UploadState.READY
    # So few steps, of some tenths of a second, that no clock decides on the layout of the arithmetic.
    training = Recovery(epochs=11, batch_size=256, precision="fp32", ema=0.99)
    spec = JobSpec(
        model=model.id,
        dataset=dataset.id,
        steps=(
            Prune(sparsity=0.25),
            Prune(sparsity=0.75, schedule=Cubic(frequency=3), training=training),
        ),
        artifacts=(ArtifactKind.COMPACT,),
        reuse=False,
    )

    def submit():
        with site.database.session() as session:
            return create_job(session, site.tenant.team_id, spec)[0]

    def kept_by(job, attempt: int) -> bool:
        with site.database.session(read_only=True) as session:
            found = checkpoint_of(session, job.id).get("training")
        return found is not None and found.attempt == attempt

    settings = {
        "threads": 1,
        "lease_seconds": SHORT_LEASE_SECONDS,
        "poll_seconds": 0.2,
        "checkpoint_seconds": 0,
        "device": "cpu",
    }
    whole, broken = submit(), submit()
    with site.start_worker(**settings) as worker:
        wait_for(lambda: site.job(whole).state.final, "the whole job", seconds=SECONDS, explain=site.log)
        wait_for(lambda: kept_by(broken, 1), "a checkpoint", seconds=SECONDS, explain=site.log)
        os.kill(_engine_of(worker), signal.SIGKILL)
        wait_for(lambda: kept_by(broken, 2), "another checkpoint", seconds=SECONDS, explain=site.log)
        worker.kill()
        worker.wait()
    with site.start_worker(**settings):
        wait_for(lambda: site.job(broken).state.final, "the broken job", seconds=SECONDS, explain=site.log)

    found, reports = [], []
    for job in (whole, broken):
        assert site.job(job).state is JobState.SUCCEEDED, site.job(job).failure
        with site.database.session(read_only=True) as session:
            files = {file.filename: file.sha256 for file in artifacts(session, job.id)}
            found.append(files["model.mpz"])
            reports.append(get_report(session, job))
    assert found[0] == found[1]
    first, second = reports
    assert [stage.measurement.accuracy for stage in first.stages] == [
        stage.measurement.accuracy for stage in second.stages
    ]
    assert second.final.accuracy == first.final.accuracy
    assert second.stages[1].training.steps == first.stages[1].training.steps
    with site.database.session(read_only=True) as session:
        rows = attempts(session, broken.id)
        events = events_after(session, broken.id, 0, 10_000)
    assert [(row.outcome, row.continues) for row in rows] == [("lost", None), ("lost", 1), ("succeeded", 2)]
    done = [(row.event.stage, row.event.step) for row in events if isinstance(row.event, StageDone)]
    assert done == [("baseline", None), ("step", 0), ("step", 1), ("final", None)]  # each of them once
    log = b"".join(site.store.read(files["log.txt"])).decode()
    assert "the training of step 1 goes on" in log
