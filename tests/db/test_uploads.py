"""Models and data sets: listed, found and deleted by their own team only."""

from __future__ import annotations

import json
import threading

import pytest
from sqlalchemy import Engine, event, select
from sqlalchemy.exc import InvalidRequestError

from db.errors import InUse, InvalidText, NotFound
from db.models import Dataset, Model
from db.queries import uploads
from db.queries.claims import add_artifact, cancelled, claim_inspection, claim_job, succeed
from db.queries.jobs import cancel, create_job, get_job, take_result
from db.queries.uploads import (
    delete_dataset,
    delete_model,
    get_dataset,
    get_model,
    list_datasets,
    list_models,
)
from modelpress.spec.state import JobState, UploadState
from tests.support.reports import a_report
from tests.support.rows import ARCHITECTURE, PREPROCESSING, any_sha256, inspect, new_tenant, spec_for
from tests.support.uploads import dataset_inspection, model_inspection


@pytest.fixture
def tenant(database):
    return new_tenant(database)


def _delete(tenant, model):
    with tenant.database.session() as session:
        return delete_model(session, tenant.team_id, model.id)


def test_a_model_comes_back_as_it_was_created(database, tenant):
    made = tenant.upload_model(sha256="a" * 64, name="ünïcode")
    with database.session(read_only=True) as session:
        found = get_model(session, tenant.team_id, made.id)
    assert found.name == "ünïcode"
    assert (found.format, found.architecture, found.image_size, found.preprocessing) == (
        "safetensors",
        ARCHITECTURE,
        32,
        PREPROCESSING,
    )
    assert (found.sha256, found.size, found.state) == ("a" * 64, 1_000, UploadState.INSPECTING)
    assert (found.inspection, found.failure, found.deleted_at) == (None, None, None)
    assert found.created_at.tzinfo is not None


def test_another_teams_upload_is_no_upload(database, tenant):
    other = new_tenant(database, "other")
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    with database.session() as session:
        assert get_model(session, other.team_id, model.id) is None
        assert get_dataset(session, other.team_id, dataset.id) is None
        assert list_models(session, other.team_id, limit=10) == ([], None)
        assert list_datasets(session, other.team_id, limit=10) == ([], None)
        with pytest.raises(NotFound):
            delete_model(session, other.team_id, model.id)
        with pytest.raises(NotFound):
            delete_dataset(session, other.team_id, dataset.id)
        # An id of one kind is none of the other.
        assert get_dataset(session, tenant.team_id, model.id) is None


def test_lists_are_newest_first_and_page_by_the_last_id(database, tenant):
    made = [tenant.upload_model().id for _ in range(7)]
    new_tenant(database, "other").upload_model()
    pages, after = [], None
    while not pages or after is not None:
        with database.session(read_only=True) as session:
            page, after = list_models(session, tenant.team_id, after=after, limit=3)
        pages.append([row.id for row in page])
        if len(pages) == 1:
            tenant.upload_model()  # what arrives meanwhile does not shift the pages
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [row for page in pages for row in page] == made[::-1]


def test_a_page_that_is_just_full_is_the_last(database, tenant):
    for _ in range(3):
        tenant.upload_dataset()
    with database.session(read_only=True) as session:
        page, after = list_datasets(session, tenant.team_id, limit=3)
    assert (len(page), after) == (3, None)


def test_a_page_ends_before_its_inspections_are_too_long(database, tenant, monkeypatch):
    """From the newest on: a long one by itself, two short ones, one that waits, a short one, another long one."""
    short = dataset_inspection()
    long = short.model_copy(update={"classes": tuple(map(str, range(1_000)))})
    made = []
    for found in (long, short, None, short, short, long):
        made.append(tenant.upload_dataset().id)
        if found is not None:
            inspect(database, found)
            continue
        with database.session() as session:
            claim_inspection(session, "an inspector at work", 30)
    monkeypatch.setattr(uploads, "PAGE_BYTES", 2 * len(json.dumps(short.model_dump(mode="json"))))
    pages, after = [], None
    while not pages or after is not None:
        with database.session(read_only=True) as session:
            page, after = list_datasets(session, tenant.team_id, after=after, limit=4)
        pages.append([(row.id, row.inspection) for row in page])
    assert [len(page) for page in pages] == [1, 3, 1, 1]
    shown = [found for page in pages for found in page]
    assert shown == list(zip(made, (long, short, None, short, short, long), strict=True))[::-1]


def test_inspections_are_loaded_for_those_who_look_at_them_alone(database, tenant):
    """Jobs need hashes and what was said with an upload: of the model, of students, of what either was made of."""
    model, student, dataset = tenant.upload_model(), tenant.upload_model(), tenant.upload_dataset()
    for found in (model_inspection(), model_inspection(), dataset_inspection()):
        inspect(database, found)
    asked = []

    def note(connection, cursor, statement, *rest):
        if statement.startswith("SELECT"):
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        made = any_sha256()
        first = _carry_out(tenant, tenant.submit(model, dataset, students=[student]), made)
        of_it = tenant.upload_model(sha256=made)
        inspect(database, model_inspection())
        second = _carry_out(tenant, tenant.submit(of_it, dataset), any_sha256())
        assert [ancestor.job for ancestor in second.model.lineage] == [first.id]
        third = tenant.submit(of_it, dataset)
        claimed = _claim(database)
        assert (claimed.id, claimed.twin.job_id) == (third.id, second.id)
        fourth = tenant.submit(of_it, dataset)
        with database.session() as session:
            assert take_result(session, tenant.team_id, fourth.id, claimed.twin).state is JobState.SUCCEEDED
            cancel(session, tenant.team_id, third.id)
            assert cancelled(session, third.id, claimed.attempt)
        _delete(tenant, of_it)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) > 20
    assert [statement for statement in asked if "inspection" in statement] == []


@pytest.mark.parametrize("table", [Model, Dataset])
def test_an_inspection_that_was_not_asked_for_is_not_loaded_in_silence(database, tenant, table):
    tenant.upload_model()
    tenant.upload_dataset()
    with database.session(read_only=True) as session:
        row = session.scalars(select(table)).one()
        with pytest.raises(InvalidRequestError, match="inspection"):
            _ = row.inspection
        look = get_model if table is Model else get_dataset
        assert look(session, tenant.team_id, row.id) is row
        assert row.inspection is None


def _claim(database):
    with database.session() as session:
        return claim_job(session, "w", 30)


def _carry_out(tenant, job, sha256):
    """Carry the job out; its one artifact has this hash."""
    claimed = _claim(tenant.database)
    assert claimed.id == job.id
    with tenant.database.session() as session:
        file = {"kind": "compact", "filename": "file", "size": 1, "sha256": sha256, "content_type": "text"}
        assert add_artifact(session, job.id, claimed.attempt, **file)
        assert succeed(session, job.id, claimed.attempt, a_report())
        assert get_job(session, tenant.team_id, job.id).state is JobState.SUCCEEDED
    return claimed


def test_a_deleted_upload_is_gone_but_its_jobs_still_know_it(database, tenant):
    model, kept = tenant.upload_model(), tenant.upload_model()
    job = tenant.submit(model)
    with database.session() as session:
        cancel(session, tenant.team_id, job.id)
    assert _delete(tenant, model) == model.sha256
    with database.session() as session:
        assert get_model(session, tenant.team_id, model.id) is None
        assert [row.id for row in list_models(session, tenant.team_id, limit=9)[0]] == [kept.id]
        with pytest.raises(NotFound):
            delete_model(session, tenant.team_id, model.id)
        with pytest.raises(NotFound, match="model"):
            create_job(session, tenant.team_id, spec_for(model))


def test_an_upload_in_use_is_not_deleted(database, tenant):
    model, dataset = tenant.upload_model(), tenant.upload_dataset()
    job = tenant.submit(model, dataset)
    with database.session() as session:
        with pytest.raises(InUse, match=job.id):
            delete_model(session, tenant.team_id, model.id)
        with pytest.raises(InUse, match=job.id):
            delete_dataset(session, tenant.team_id, dataset.id)
        claim_job(session, "w", 30)
        with pytest.raises(InUse):
            delete_model(session, tenant.team_id, model.id)
        cancel(session, tenant.team_id, job.id)
        with pytest.raises(InUse):  # cancelling: the worker still reads it
            delete_model(session, tenant.team_id, model.id)
        assert cancelled(session, job.id, 1)
        assert delete_model(session, tenant.team_id, model.id) == model.sha256
        assert delete_dataset(session, tenant.team_id, dataset.id) == dataset.sha256


def test_a_student_in_use_is_not_deleted(database, tenant):
    """Named by two steps and by another job that is over: held by the one that is not."""
    student = tenant.upload_model()
    over, job = (
        tenant.submit(tenant.upload_model(), tenant.upload_dataset(), students=[student, student]) for _ in range(2)
    )
    with database.session() as session:
        cancel(session, tenant.team_id, over.id)
        with pytest.raises(InUse, match=job.id):
            delete_model(session, tenant.team_id, student.id)
        claim_job(session, "w", 30)
        with pytest.raises(InUse, match=job.id):
            delete_model(session, tenant.team_id, student.id)
        cancel(session, tenant.team_id, job.id)
        assert cancelled(session, job.id, 1)
        assert delete_model(session, tenant.team_id, student.id) == student.sha256


@pytest.mark.parametrize("role", ["model", "student"])
def test_deleting_and_submitting_at_once_never_leaves_a_job_without_its_model(database, tenant, role):
    other = tenant.upload_model()
    for _ in range(10):
        model = tenant.upload_model()
        barrier = threading.Barrier(2)
        outcome = {}

        def submit(model=model, barrier=barrier, outcome=outcome):
            barrier.wait()
            try:
                job = tenant.submit(model) if role == "model" else tenant.submit(other, students=[model])
                outcome["job"] = job.id
            except NotFound as error:
                outcome["refused"] = error

        def delete(model=model, barrier=barrier, outcome=outcome):
            barrier.wait()
            try:
                outcome["dropped"] = _delete(tenant, model)
            except InUse as error:
                outcome["kept"] = error

        threads = [threading.Thread(target=submit), threading.Thread(target=delete)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(outcome) in ({"job", "kept"}, {"refused", "dropped"})


def test_a_name_that_cannot_be_stored_is_refused(tenant):
    with pytest.raises(InvalidText, match="name"):
        tenant.upload_model(name="a\x00b")
