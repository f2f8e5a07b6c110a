"""Models and data sets: listed, found and deleted by their own team only."""

from __future__ import annotations

import threading

import pytest

from db.errors import InUse, InvalidText, NotFound
from db.queries.claims import cancelled, claim_job
from db.queries.jobs import cancel, create_job
from db.queries.uploads import (
    delete_dataset,
    delete_model,
    get_dataset,
    get_model,
    list_datasets,
    list_models,
)
from modelpress.spec.state import UploadState
from tests.support.rows import ARCHITECTURE, PREPROCESSING, new_tenant, spec_for


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
        assert list_models(session, other.team_id, limit=10) == []
        assert list_datasets(session, other.team_id, limit=10) == []
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
    while True:
        with database.session(read_only=True) as session:
            page = [row.id for row in list_models(session, tenant.team_id, after=after, limit=3)]
        if not page:
            break
        pages.append(page)
        after = page[-1]
        if len(pages) == 1:
            tenant.upload_model()  # what arrives meanwhile does not shift the pages
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [row for page in pages for row in page] == made[::-1]


def test_a_deleted_upload_is_gone_but_its_jobs_still_know_it(database, tenant):
    model, kept = tenant.upload_model(), tenant.upload_model()
    job = tenant.submit(model)
    with database.session() as session:
        cancel(session, tenant.team_id, job.id)
    assert _delete(tenant, model) == model.sha256
    with database.session() as session:
        assert get_model(session, tenant.team_id, model.id) is None
        assert [row.id for row in list_models(session, tenant.team_id, limit=9)] == [kept.id]
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
