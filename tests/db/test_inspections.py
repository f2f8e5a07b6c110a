"""Uploads as inspecting workers see them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from db.models import Dataset, Model
from db.queries.claims import Reaped, reap
from db.queries.inspections import (
    ClaimedInspection,
    claim_inspection,
    finish_inspection,
    has_waiting_inspections,
    lose_inspection,
    release_inspection,
    renew_inspection,
)
from db.queries.model_input import ModelInput
from db.queries.uploads import delete_model, get_dataset, get_model
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.inspection import DatasetInspection, LayerInspection, ModelInspection
from modelpress.spec.network import NetworkSummary
from modelpress.spec.state import UploadState
from tests.support.rows import ARCHITECTURE, PREPROCESSING, new_tenant

LAPSED = -1.0
MODEL_FOUND = ModelInspection(
    network=NetworkSummary(architecture=ARCHITECTURE, input_shape=(3, 32, 32)),
    format="safetensors",
    parameters=966_986,
    macs=222_488_576,
    num_classes=10,
    fp32_bytes=3_870_000,
    layers=(
        LayerInspection(
            name="features.0",
            type="Conv2d",
            weight_shape=(192, 3, 5, 5),
            parameters=14_592,
            prunable=True,
            full_rank=15,
        ),
    ),
)
DATASET_FOUND = DatasetInspection(
    format="npz",
    classes=("0", "1"),
    train_examples=90,
    heldout_examples=None,
    image_shape=(3, 32, 32),
    statistics=PREPROCESSING,
)
REASON = Failure(kind=FailureKind.INVALID_MODEL, message="the file is truncated; upload it again")


@pytest.fixture
def tenant(database):
    return new_tenant(database)


def _claim(database, lease=30.0):
    with database.session() as session:
        return claim_inspection(session, "inspector", lease)


def _reap(database, most=3):
    with database.session() as session:
        return reap(session, most)


def _waits(database):
    with database.session(read_only=True) as session:
        return has_waiting_inspections(session)


def test_models_and_data_sets_are_one_queue(database, tenant):
    assert _claim(database) is None
    assert not _waits(database)
    uploads = [tenant.upload_model(), tenant.upload_dataset(), tenant.upload_dataset(), tenant.upload_model()]
    assert _waits(database)
    first = _claim(database)
    assert first == ClaimedInspection(
        kind="model",
        id=uploads[0].id,
        team_id=tenant.team_id,
        attempt=1,
        sha256=uploads[0].sha256,
        model=ModelInput(uploads[0].sha256, "safetensors", ARCHITECTURE, 32, PREPROCESSING),
    )
    rest = [_claim(database) for _ in range(3)]
    assert {claim.id for claim in (first, *rest)} == {upload.id for upload in uploads}
    assert [claim.kind for claim in rest if claim.model is None] == ["dataset", "dataset"]
    assert _claim(database) is None
    assert not _waits(database)


def test_no_teams_uploads_delay_anothers(database, tenant):
    """One inspector takes teams in turns; several share themselves among them."""
    first = [upload() for _ in range(3) for upload in (tenant.upload_model, tenant.upload_dataset)]
    others = [new_tenant(database, name) for name in ("second", "third")]
    late = [other.upload_model() for other in others for _ in range(2)]
    order: dict[str, None] = {}

    def take(*, is_done: bool) -> str:
        with database.session() as session:
            claim = claim_inspection(session, "inspector", 30, tuple(order))
            order.pop(claim.team_id, None)
            order[claim.team_id] = None
            if is_done:
                assert finish_inspection(session, claim.kind, claim.id, 1, REASON)
        return claim.id

    one, two = [[upload.id for upload in uploads] for uploads in (late[:2], late[2:])]
    mine = [upload.id for upload in first]
    assert [take(is_done=True) for _ in range(5)] == [mine[0], one[0], two[0], mine[1], one[1]]
    # What is held counts first: whoever has an upload at work waits for those who have none.
    order = dict.fromkeys([others[1].team_id])
    assert [take(is_done=False) for _ in range(2)] == [mine[2], two[1]]
    assert [take(is_done=True) for _ in range(3)] == mine[3:]


def test_eight_inspectors_take_each_upload_once(database, tenant):
    made = {tenant.upload_model().id for _ in range(12)} | {tenant.upload_dataset().id for _ in range(12)}

    def work(_):
        claims = []
        # A claim that lost a race may find nothing although something waits: the next look finds it.
        while (claim := _claim(database)) is not None or _waits(database):
            if claim is not None:
                claims.append(claim.id)
        return claims

    with ThreadPoolExecutor(8) as pool:
        taken = [upload for found in pool.map(work, range(8)) for upload in found]
    assert sorted(taken) == sorted(made)


def test_what_was_found_makes_it_ready(database, tenant):
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    for result in (MODEL_FOUND, DATASET_FOUND):
        kind = "model" if result is MODEL_FOUND else "dataset"
        upload = model if result is MODEL_FOUND else dataset
        claim = _claim(database)
        assert (claim.kind, claim.id) == (kind, upload.id)
        with database.session() as session:
            assert renew_inspection(session, kind, claim.id, claim.attempt, 30)
            assert finish_inspection(session, kind, claim.id, claim.attempt, result)
    with database.session(read_only=True) as session:
        ready = get_model(session, tenant.team_id, model.id), get_dataset(session, tenant.team_id, dataset.id)
    assert [row.inspection for row in ready] == [MODEL_FOUND, DATASET_FOUND]
    assert {(row.state, row.failure, row.worker, row.lease_expires_at) for row in ready} == {
        (UploadState.READY, None, None, None)
    }


def test_a_reason_rejects_it(database, tenant):
    model = tenant.upload_model()
    claim = _claim(database)
    with database.session() as session:
        assert finish_inspection(session, "model", claim.id, claim.attempt, REASON)
        found = get_model(session, tenant.team_id, model.id)
    assert (found.state, found.failure, found.inspection) == (UploadState.REJECTED, REASON, None)
    assert _claim(database) is None


@pytest.mark.parametrize(("kind", "result"), [("model", DATASET_FOUND), ("dataset", MODEL_FOUND)])
def test_the_inspection_of_the_other_kind_is_refused(database, tenant, kind, result):
    upload = tenant.upload_model() if kind == "model" else tenant.upload_dataset()
    _claim(database)
    with pytest.raises(ValueError, match=kind), database.session() as session:
        finish_inspection(session, kind, upload.id, 1, result)


WRITES = {
    "renew": lambda session, kind, upload, attempt: renew_inspection(session, kind, upload, attempt, 30),
    "finish": lambda session, kind, upload, attempt: finish_inspection(session, kind, upload, attempt, REASON),
    "release": release_inspection,
    "lose": lambda session, kind, upload, attempt: lose_inspection(session, kind, upload, attempt, REASON, 1),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize("meanwhile", ["waits", "another", "finished"])
def test_a_late_inspector_changes_nothing(database, tenant, kind, name, meanwhile):
    upload = tenant.upload_model() if kind == "model" else tenant.upload_dataset()
    _claim(database, lease=LAPSED)
    if meanwhile == "finished":
        with database.session() as session:
            assert finish_inspection(session, kind, upload.id, 1, REASON)
    else:
        assert _reap(database) == Reaped(requeued_uploads=[upload.id])
        if meanwhile == "another":
            assert _claim(database).attempt == 2
    table = (Model if kind == "model" else Dataset).__table__
    with database.session() as session:
        before = session.execute(select(table)).all()
        assert not WRITES[name](session, kind, upload.id, 1)
        assert session.execute(select(table)).all() == before


@pytest.mark.parametrize("name", WRITES)
def test_the_inspection_of_a_deleted_model_is_dropped(database, tenant, name):
    model = tenant.upload_model()
    _claim(database, lease=LAPSED)
    with database.session() as session:
        delete_model(session, tenant.team_id, model.id)
        assert not WRITES[name](session, "model", model.id, 1)
    assert not _waits(database)
    assert _reap(database) == Reaped()


def test_a_released_upload_waits_again(database, tenant):
    upload = tenant.upload_dataset()
    _claim(database)
    with database.session() as session:
        assert release_inspection(session, "dataset", upload.id, 1)
    assert _claim(database).attempt == 2


def test_an_upload_whose_engines_are_killed_is_rejected_at_last(database, tenant):
    upload = tenant.upload_model()
    states = []
    for attempt in (1, 2, 3):
        assert _claim(database).attempt == attempt
        with database.session() as session:
            states.append(lose_inspection(session, "model", upload.id, attempt, REASON, 3))
    assert states == [UploadState.INSPECTING, UploadState.INSPECTING, UploadState.REJECTED]
    with database.session(read_only=True) as session:
        found = get_model(session, tenant.team_id, upload.id)
    assert (found.state, found.failure, found.losses, found.lease_expires_at) == (UploadState.REJECTED, REASON, 3, None)


def test_an_upload_that_loses_its_inspectors_is_rejected_at_last(database, tenant):
    models = tenant.upload_model(), tenant.upload_model()
    with database.session() as session:
        assert finish_inspection(session, "model", _claim_other(session), 1, MODEL_FOUND)
    for attempt in (1, 2):
        assert _claim(database, LAPSED).attempt == attempt
        assert _reap(database, 3) == Reaped(requeued_uploads=[models[1].id])
    assert _claim(database, LAPSED).attempt == 3
    assert _reap(database, 3) == Reaped(rejected_uploads=[models[1].id])
    assert not _waits(database)
    with database.session(read_only=True) as session:
        lost, ready = (get_model(session, tenant.team_id, model.id) for model in models[::-1])
    assert (lost.state, lost.failure.kind, lost.worker) == (UploadState.REJECTED, FailureKind.WORKER_LOST, None)
    assert "3 workers" in lost.failure.message
    assert ready.state is UploadState.READY


def _claim_other(session):
    return claim_inspection(session, "inspector", 30).id


def test_a_living_inspector_keeps_its_upload(database, tenant):
    tenant.upload_model()
    _claim(database, 60)
    assert _reap(database) == Reaped()
