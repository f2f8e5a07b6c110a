"""Inspections whose engine is killed, as jobs' engines are."""

from __future__ import annotations

import sys

import pytest

from db.queries.uploads import get_dataset, get_model
from modelpress.spec.failure import Failure, FailureKind
from modelpress.spec.state import UploadState
from modelpress.spec.task import MOST_INSPECTION_BYTES
from tests.support.inspections import inspection_of
from tests.support.uploads import dataset_inspection
from tests.worker.conftest import Site, wait_for


@pytest.mark.parametrize("behaviour", ["die_once", "die"])
def test_a_killed_inspection_is_tried_again_and_not_for_ever(embedded_site: Site, behaviour: str) -> None:
    site, upload = embedded_site, embedded_site.store_model()
    found = site.home / "found.json"
    found.write_text(inspection_of([]).model_dump_json())

    def look():  # type: ignore[no-untyped-def]
        with site.database.session(read_only=True) as session:
            return get_model(session, site.tenant.team_id, upload.id)

    with site.start_worker(
        "inspections", engine_command=site.engine(behaviour, found), poll_seconds=0.2, max_attempts=3
    ):
        wait_for(lambda: look().state is not UploadState.INSPECTING, "the inspection", explain=site.log)
    if behaviour == "die_once":
        assert (look().state, look().attempt, look().losses) == (UploadState.READY, 2, 1)
    else:
        assert (look().state, look().attempt, look().losses) == (UploadState.REJECTED, 3, 3)
        assert look().failure.kind is FailureKind.OUT_OF_MEMORY


@pytest.mark.parametrize(
    ("kind", "reason"), [("model", FailureKind.INVALID_MODEL), ("dataset", FailureKind.INVALID_DATASET)]
)
def test_an_inspection_of_megabytes_is_not_kept(embedded_site: Site, kind: str, reason: FailureKind) -> None:
    site = embedded_site
    if kind == "model":
        upload, look = site.store_model(), get_model
        found = inspection_of([]).model_copy(update={"notes": ("x" * MOST_INSPECTION_BYTES,)})
    else:
        upload, look = site.store_dataset(), get_dataset
        found = dataset_inspection().model_copy(update={"classes": ("x" * MOST_INSPECTION_BYTES, "y")})
    path = site.home / "found.json"
    path.write_text(found.model_dump_json())
    code = "import pathlib, shutil, sys; shutil.copy(sys.argv[1], pathlib.Path(sys.argv[2]) / 'inspection.json')"
    rejected = _inspected(site, look, upload, _engine(site, code, path))
    assert (rejected.state, rejected.attempt, rejected.inspection) == (UploadState.REJECTED, 1, None)
    assert rejected.failure.kind is reason
    assert "more than 4 MiB" in rejected.failure.message
    assert "shorter names" in rejected.failure.message


def test_a_reason_of_megabytes_is_shortened(embedded_site: Site) -> None:
    site = embedded_site
    failure = Failure(kind=FailureKind.INVALID_MODEL, message=f"the layer {'x' * 5_000_000} is none; give it weights")
    path = site.home / "failure-template.json"
    path.write_text(failure.model_dump_json())
    code = "import pathlib, shutil, sys; shutil.copy(sys.argv[1], pathlib.Path(sys.argv[2]) / 'failure.json'); exit(1)"
    rejected = _inspected(site, get_model, site.store_model(), _engine(site, code, path))
    assert rejected.failure.kind is FailureKind.INVALID_MODEL
    assert len(rejected.failure.message) < 5_000
    assert rejected.failure.message.startswith("the layer x")
    assert rejected.failure.message.endswith("x is none; give it weights")


def _engine(site: Site, code: str, argument: object) -> str:
    script = site.home / "engine.py"
    script.write_text(code)
    return f"{sys.executable} {script} {argument}"


def _inspected(site: Site, look, upload, engine: str):  # type: ignore[no-untyped-def]
    def found():  # type: ignore[no-untyped-def]
        with site.database.session(read_only=True) as session:
            return look(session, site.tenant.team_id, upload.id)

    with site.start_worker("inspections", engine_command=engine, poll_seconds=0.2, max_attempts=3):
        wait_for(lambda: found().state is not UploadState.INSPECTING, "the inspection", explain=site.log)
    return found()
