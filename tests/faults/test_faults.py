"""Each kind of fault at a few moments, on each back end; `make faults` takes hundreds of moments.

The kinds that need nothing of their own share one service, in this order, and what is left is looked for at last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.back_ends import BACK_ENDS
from tests.faults.campaign import Outcome, expected_results, run
from tests.faults.check import Result
from tests.faults.fault import Fault
from tests.faults.leftovers import leftovers
from tests.faults.registry import FAULTS
from tests.faults.site import Site, running_site

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SEED = 20
SHARING = [fault for fault in FAULTS if fault.few and not fault.is_apart]
APART = [
    pytest.param(fault, back_end, id=f"{fault.name}, {back_end}")
    for fault in FAULTS
    if fault.few and fault.is_apart
    for back_end in fault.back_ends
]


@dataclass
class Tried:
    """A service, and what its jobs come to without a fault."""

    site: Site
    expected: dict[str, Result]


@pytest.fixture(scope="module", params=list(BACK_ENDS))
def tried(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tried]:
    home = tmp_path_factory.mktemp("faults") / "home"
    home.mkdir()
    with BACK_ENDS[request.param](home) as back_end, running_site(home, back_end) as site:
        yield Tried(site, expected_results(site))


@pytest.mark.parametrize("fault", SHARING, ids=lambda fault: fault.name)
def test_nothing_is_lost_and_nothing_doubled(tried: Tried, fault: Fault) -> None:
    if tried.site.back_end.name not in fault.back_ends:
        pytest.skip(f"it is about {fault.back_ends} alone")
    _require(run(fault, tried.site, tried.expected, moments=fault.few, seed=SEED))


def test_nothing_is_left(tried: Tried) -> None:
    assert leftovers(tried.site) == []


@pytest.mark.parametrize(("fault", "name"), APART)
def test_nothing_is_lost_on_a_service_of_its_own(tmp_path: Path, fault: Fault, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (
        BACK_ENDS[name](home) as usual,
        fault.around(usual, home) as back_end,
        running_site(home, back_end, workers=fault.workers, apis=fault.apis, settings=fault.settings(home)) as site,
    ):
        _require(run(fault, site, expected_results(site), moments=fault.few, seed=SEED))
        assert leftovers(site) == []


def _require(outcome: Outcome) -> None:
    findings = outcome.findings
    assert (findings.lost, findings.doubled, findings.wrong) == ([], [], [])
    assert outcome.moments > 0
    # Beside other tests, on a machine of two cores; `make faults` asks for the bound itself.
    assert (outcome.worst_seconds or 0.0) <= 4 * outcome.bound_seconds
