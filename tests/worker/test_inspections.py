"""Inspections whose engine is killed, as jobs' engines are."""

from __future__ import annotations

import pytest

from db.queries.uploads import get_model
from modelpress.spec.failure import FailureKind
from modelpress.spec.state import UploadState
from tests.support.inspections import inspection_of
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
