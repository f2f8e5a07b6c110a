"""Rows and bytes are made to disagree in every way, and the checker names each, and no other."""

from __future__ import annotations

import hashlib

import pytest

from db.database import Database
from db.models import Artifact, Dataset, Model
from db.queries.claims import add_artifact, claim_inspection, claim_job, finish_inspection
from db.queries.step_results import FirstSteps, keep_step_result
from db.queries.uploads import delete_model
from modelpress.spec.failure import FailureKind
from modelpress.spec.state import UploadState
from service import storage_check
from service.storage_check import Fault, Finding, check_storage
from service.stored_bytes import Shard, read_shard
from storage.store import Store
from tests.support.rows import Tenant, any_sha256, new_tenant
from tests.support.stores import content_of, damage, put
from tests.support.uploads import model_inspection

# Sizes that `Tenant` writes into rows.
MODEL_BYTES, DATASET_BYTES = 1_000, 2_000
ALL_ARE_OLD = -60.0  # seconds of grace


# The two ways to run the service, not every database with every store: each check lists all of the store.
pytestmark = pytest.mark.parametrize(
    ("dialect", "open_one"), [("sqlite", "local"), ("postgresql", "s3")], indirect=True, ids=["embedded", "production"]
)


@pytest.fixture
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


def check(tenant: Tenant, store: Store, *, grace_seconds: float = ALL_ARE_OLD, **how: bool) -> list[Finding]:
    return list(check_storage(tenant.database, store, grace_seconds=grace_seconds, **how))


def summary(findings: list[Finding]) -> dict[str, tuple[Fault, int | None, tuple[str, ...], bool]]:
    return {
        found.sha256: (found.fault, found.size, tuple(holder.id for holder in found.holders), found.is_repaired)
        for found in findings
    }


def store_model(tenant: Tenant, store: Store, seed: int = 0) -> Model:
    return tenant.upload_model(sha256=put(store, content_of(MODEL_BYTES, seed)))


def store_artifact(tenant: Tenant, store: Store, content: bytes) -> Artifact:
    """What a job has made whose model is in order."""
    job = tenant.submit(store_model(tenant, store, seed=99))
    with tenant.database.session() as session:
        claimed = claim_job(session, "w", 30)
        assert claimed is not None
        assert claimed.id == job.id
        assert add_artifact(
            session,
            job.id,
            1,
            kind="compact",
            filename="model.mpz",
            size=len(content),
            sha256=put(store, content),
            content_type="x/y",
        )
        return session.query(Artifact).one()


def upload(tenant: Tenant, row: Model | Dataset) -> Model | Dataset:
    with tenant.database.session(read_only=True) as session:
        return session.get_one(type(row), row.id)


def test_where_rows_and_bytes_agree_nothing_is_found_or_changed(tenant: Tenant, store: Store) -> None:
    model = store_model(tenant, store)
    dataset = tenant.upload_dataset(sha256=put(store, content_of(DATASET_BYTES)))
    artifact = store_artifact(tenant, store, content_of(10))
    deleted = tenant.upload_model()  # its bytes have gone with it
    with tenant.database.session() as session:
        delete_model(session, tenant.team_id, deleted.id)
    assert check(tenant, store) == check(tenant, store, read=True, repair=True) == []
    assert all(store.exists(row.sha256) for row in (model, dataset, artifact))
    assert upload(tenant, model).state is UploadState.INSPECTING


def test_an_upload_whose_bytes_are_gone_is_rejected(tenant: Tenant, store: Store) -> None:
    """Ready or not; and what is rejected already relies on no bytes."""
    ready = store_model(tenant, store)
    with tenant.database.session() as session:
        claimed = claim_inspection(session, "w", 30)
        assert claimed is not None
        assert finish_inspection(session, "model", ready.id, claimed.attempt, model_inspection())
    twin = tenant.upload_model(sha256=ready.sha256)
    dataset = tenant.upload_dataset(sha256=any_sha256())
    store.delete(ready.sha256)

    found = summary(check(tenant, store))
    assert found == {
        ready.sha256: (Fault.MISSING, None, (ready.id, twin.id), False),
        dataset.sha256: (Fault.MISSING, None, (dataset.id,), False),
    }
    assert upload(tenant, ready).state is UploadState.READY

    assert summary(check(tenant, store, repair=True)) == {
        sha256: (fault, size, ids, True) for sha256, (fault, size, ids, _) in found.items()
    }
    for row in (ready, twin, dataset):
        rejected = upload(tenant, row)
        assert rejected.state is UploadState.REJECTED
        assert rejected.failure is not None
        assert rejected.failure.kind is FailureKind.INTERNAL
        assert "upload it again" in rejected.failure.message
    assert check(tenant, store) == []


def test_an_inspection_that_ends_after_the_repair_changes_nothing(tenant: Tenant, store: Store) -> None:
    model = tenant.upload_model(sha256=any_sha256())
    with tenant.database.session() as session:
        claimed = claim_inspection(session, "w", 30)
    assert claimed is not None
    check(tenant, store, repair=True)
    with tenant.database.session() as session:
        assert not finish_inspection(session, "model", model.id, claimed.attempt, model_inspection())
    assert upload(tenant, model).state is UploadState.REJECTED


def test_what_a_job_made_is_reported_and_left(tenant: Tenant, store: Store) -> None:
    artifact = store_artifact(tenant, store, content_of(10))
    store.delete(artifact.sha256)
    for repair in (False, True):
        (found,) = check(tenant, store, repair=repair)
        assert summary([found]) == {artifact.sha256: (Fault.MISSING, None, (artifact.id,), False)}
        assert "backup" in found.advice
    with tenant.database.session(read_only=True) as session:
        assert session.get_one(Artifact, artifact.id).sha256 == artifact.sha256


def test_bytes_without_a_row_are_removed_when_they_are_old(tenant: Tenant, store: Store) -> None:
    model, left = store_model(tenant, store), put(store, b"of a dead attempt")
    assert check(tenant, store, grace_seconds=3600, repair=True) == []
    assert store.exists(left)
    assert summary(check(tenant, store)) == {left: (Fault.UNNEEDED, 17, (), False)}
    assert store.exists(left)
    assert summary(check(tenant, store, repair=True)) == {left: (Fault.UNNEEDED, 17, (), True)}
    assert not store.exists(left)
    assert store.exists(model.sha256)


@pytest.mark.parametrize("length", [MODEL_BYTES, MODEL_BYTES - 1], ids=["same size", "cut short"])
def test_damaged_bytes_of_an_upload_are_removed(tenant: Tenant, store: Store, length: int) -> None:
    """Found without reading everything only where the size differs."""
    model, sound = store_model(tenant, store), store_model(tenant, store, seed=1)
    damage(store, model.sha256, b"x" * length)
    assert bool(check(tenant, store)) == (length != MODEL_BYTES)
    assert summary(check(tenant, store, read=True)) == {model.sha256: (Fault.DAMAGED, length, (model.id,), False)}
    assert store.exists(model.sha256)
    (found,) = check(tenant, store, read=True, repair=True)
    assert found.is_repaired
    assert upload(tenant, model).state is UploadState.REJECTED
    assert upload(tenant, sound).state is UploadState.INSPECTING
    assert not store.exists(model.sha256)
    # The owner does as told.
    again = store_model(tenant, store)
    assert again.sha256 == model.sha256
    assert check(tenant, store, read=True) == []


def test_damaged_bytes_of_a_job_are_left_for_the_operator(tenant: Tenant, store: Store) -> None:
    content = content_of(MODEL_BYTES)
    artifact = store_artifact(tenant, store, content)
    uploaded_again = tenant.upload_model(sha256=artifact.sha256)
    damage(store, artifact.sha256, b"x" * MODEL_BYTES)
    (found,) = check(tenant, store, read=True, repair=True)
    assert summary([found]) == {artifact.sha256: (Fault.DAMAGED, MODEL_BYTES, (uploaded_again.id, artifact.id), False)}
    assert upload(tenant, uploaded_again).state is UploadState.REJECTED
    assert store.exists(artifact.sha256)
    damage(store, artifact.sha256, content)  # out of a backup
    assert check(tenant, store, read=True) == []


def test_a_row_that_says_another_size_is_reported(tenant: Tenant, store: Store) -> None:
    model = tenant.upload_model(sha256=put(store, b"abc"))
    (found,) = check(tenant, store, repair=True)
    assert summary([found]) == {model.sha256: (Fault.SIZE, 3, (model.id,), False)}
    assert "1000 bytes" in found.advice
    assert upload(tenant, model).state is UploadState.INSPECTING


def test_what_changes_while_rows_and_bytes_are_compared_is_no_fault(
    tenant: Tenant, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that were listed get their row, and a row that was listed its bytes, before they are looked at again."""
    first, second = content_of(MODEL_BYTES), content_of(MODEL_BYTES, seed=1)
    unnamed = put(store, first)
    missing = tenant.upload_model(sha256=hashlib.sha256(second).hexdigest()).sha256

    def change_after(database: Database, store: Store, shard: str, **how: bool) -> Shard:
        found = read_shard(database, store, shard, **how)
        if unnamed in found.kept:
            tenant.upload_model(sha256=unnamed)
        if missing in found.named:
            put(store, second)
        return found

    monkeypatch.setattr(storage_check, "read_shard", change_after)
    assert check(tenant, store, repair=True) == []
    assert store.exists(unnamed)


def test_what_was_only_kept_for_longer_recipes_is_forgotten(tenant: Tenant, store: Store) -> None:
    """It costs nobody anything, whether its bytes are missing or damaged."""
    gone, other = put(store, content_of(10, seed=1)), put(store, content_of(10, seed=2))
    job = tenant.submit(store_model(tenant, store))
    with tenant.database.session() as session:
        for steps, sha256 in ((1, gone), (2, other)):
            made = FirstSteps(job.id, steps, sha256)
            keep_step_result(session, tenant.team_id, made, f"print {steps}", size=10, replace=False)
    assert check(tenant, store, read=True) == []
    store.delete(gone)
    damage(store, other, b"x" * 10)

    found = check(tenant, store, read=True)
    assert {(finding.fault, finding.sha256) for finding in found} == {(Fault.MISSING, gone), (Fault.DAMAGED, other)}
    assert all("computes it anew" in finding.advice for finding in found)
    repaired = check(tenant, store, read=True, repair=True)
    assert [finding.advice for finding in repaired] == ["forgotten", "forgotten"]
    assert check(tenant, store, read=True) == []
    assert not store.exists(other)
