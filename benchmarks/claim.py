"""From the accepted request to the claim by an idle worker: on the embedded default, and on Redis with PostgreSQL.

Both moments are the database's: when the job's row was written (a little before the client reads its answer), and when
the attempt began. An engine that gives up at once takes the real one's place.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import httpx

from benchmarks.result import Figure, arguments, publish
from benchmarks.services import Api, run_api
from modelpress.spec.resources import Job
from tests.support.postgres import postgres_server
from tests.support.processes import running, service_environment
from tests.support.redis import redis_server
from tests.support.rows import Tenant, inspect
from tests.support.uploads import model_inspection

ENGINE = Path(__file__).parent / "brief_engine.py"
_PAUSE = 0.3  # seconds between a job's end and the next request, so that the worker is idle again


def waiting_times(api: Api, rounds: int) -> list[float]:
    """Seconds from each request to its claim."""
    model = Tenant(api.database, api.team_id).upload_model()
    inspect(api.database, model_inspection())
    spec = {"model": model.id, "steps": [{"kind": "prune", "sparsity": 0.5}]}
    seconds = []
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.key}"}, timeout=60) as client:
        for turn in range(rounds + 1):
            answer = client.post("/v1/jobs", json=spec)
            answer.raise_for_status()
            job = Job.model_validate_json(answer.content)
            give_up = time.monotonic() + 60
            while not job.state.final:
                if time.monotonic() > give_up:
                    raise RuntimeError(
                        f"the job is {job.state} after a minute; the worker is gone, or its engine hangs"
                    )
                job = Job.model_validate_json(client.get(f"/v1/jobs/{job.id}", params={"wait": 10}).content)
            if turn > 0:  # the first one warms up
                seconds.append((job.attempts[0].started_at - job.created_at).total_seconds())
            time.sleep(_PAUSE)
    return seconds


@contextmanager
def _idle_service(environment: Mapping[str, str], folder: Path, database_url: str | None = None) -> Iterator[Api]:
    with (
        run_api(environment, folder, database_url) as api,
        running([sys.executable, "-m", "worker", "jobs"], environment, folder / "jobs.log"),
    ):
        yield api


def main() -> None:
    """Measure, write, print."""
    parser = arguments("claim", __doc__ or "")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    rounds = options.rounds
    engine = f"{sys.executable} {ENGINE}"
    with (
        tempfile.TemporaryDirectory(prefix="modelpress-claim-") as name,
        _idle_service(service_environment(home=name, engine_command=engine), Path(name)) as api,
    ):
        embedded = waiting_times(api, rounds)
    with (
        tempfile.TemporaryDirectory(prefix="modelpress-claim-") as name,
        postgres_server() as database_url,
        redis_server() as broker_url,
    ):
        environment = service_environment(
            home=name,
            environment="production",
            database_url=database_url,
            broker_url=broker_url,
            engine_command=engine,
        )
        with _idle_service(environment, Path(name), database_url) as api:
            servers = waiting_times(api, rounds)
    publish(
        options.output,
        "From the accepted request to the claim, medians",
        {"rounds": rounds, "workers": 1, "pause_seconds": _PAUSE},
        [
            Figure("embedded (SQLite, file system)", median(embedded), "s", at_most=0.3, samples=tuple(embedded)),
            Figure("PostgreSQL and Redis", median(servers), "s", at_most=0.05, samples=tuple(servers)),
            Figure("embedded, 90th percentile", quantiles(embedded, n=10)[-1], "s"),
            Figure("PostgreSQL and Redis, 90th percentile", quantiles(servers, n=10)[-1], "s"),
        ],
    )


if __name__ == "__main__":
    main()
