"""Each kind of fault at a few moments; `make faults` takes hundreds, and each kind by itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults.back_ends import BACK_ENDS
from tests.faults.campaign import Outcome, expected_results, run
from tests.faults.fault import Fault
from tests.faults.leftovers import leftovers
from tests.faults.registry import FAULTS
from tests.faults.site import running_site

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SEED = 20
MOMENTS = {fault.name: fault.few for fault in FAULTS}
SHARING = [fault for fault in FAULTS if fault.few and not fault.is_apart]
APART = [
    pytest.param(fault, back_end, id=f"{fault.name}, {back_end}")
    for fault in FAULTS
    if fault.few and fault.is_apart
    for back_end in fault.in_ci
]


@pytest.mark.parametrize("name", BACK_ENDS)
def test_nothing_is_lost_nothing_doubled_and_nothing_left(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    faults = [fault for fault in SHARING if name in fault.in_ci]
    with BACK_ENDS[name](home) as back_end, running_site(home, back_end) as site:
        _require(run(faults, site, expected_results(site), moments=MOMENTS, seed=SEED))
        assert leftovers(site) == []


@pytest.mark.parametrize(("fault", "name"), APART)
def test_nothing_is_lost_on_a_service_of_its_own(tmp_path: Path, fault: Fault, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (
        BACK_ENDS[name](home) as usual,
        fault.around(usual, home) as back_end,
        running_site(home, back_end, workers=fault.workers, apis=fault.apis, settings=fault.settings(home)) as site,
    ):
        _require(run([fault], site, expected_results(site), moments=MOMENTS, seed=SEED))
        assert leftovers(site) == []


def _require(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        findings = outcome.findings
        assert (findings.lost, findings.doubled, findings.wrong) == ([], [], [])
        assert outcome.moments > 0, f"{outcome.fault} found nothing to hit"
        # Beside other tests, on a machine of two cores; `make faults` asks for the bound itself.
        assert max(outcome.seconds, default=0.0) <= 4 * outcome.bound_seconds, outcome.fault
