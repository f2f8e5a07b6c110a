"""Five hundred clients that watch jobs through one API process, beside an endpoint that returns a constant.

Jobs at work change once a second each. Clients ask again and again (with the tag of what they have), wait for the next
change (long polls), or read event streams; each kind in turn. Meanwhile a few others ask the same process for
`/healthz`, which is the constant: how long that takes beside the watchers, and beside as many clients that ask for the
constant at the same rate. For long polls and streams the time is that from a change's commit to its arrival.

API, PostgreSQL, clients and what changes the jobs share the machine.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles

import uvloop

from benchmarks.result import Figure, arguments, publish
from benchmarks.services import Api, run_api
from db.database import open_database
from db.queries.claims import append_events, claim_job
from modelpress.spec.event import Progress
from tests.support.postgres import postgres_server
from tests.support.processes import service_environment
from tests.support.rows import Tenant

CONSTANT = "/healthz"
PROBES = 5
PROBE_PAUSE = 0.1  # seconds

Changes = dict[tuple[str, int], float]  # job and number of the event to the moment when it was there


@dataclass
class Seen:
    """What clients met with: seconds of answers, and when events arrived."""

    answers: list[float] = field(default_factory=list)
    arrivals: list[tuple[str, int, float]] = field(default_factory=list)  # job, number of the event, moment
    probes: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Target:
    """The API, as a client knows it."""

    port: int
    key: str

    async def open(self) -> Line:
        """A connection to it."""
        return Line(*await asyncio.open_connection("127.0.0.1", self.port), self.key)


class Line:
    """A connection that is kept: the plainest HTTP client there is, as a library's own cost would hide the server's."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader, self._writer, self._key = reader, writer, key

    async def ask(self, path: str, tag: str | None = None) -> tuple[int, str | None, bytes]:
        """Status, entity tag and body of an answer."""
        await self._send(path, tag)
        status, headers = await self._head()
        size = int(headers.get("content-length", "0"))
        return status, headers.get("etag"), await self._reader.readexactly(size) if size else b""

    async def follow(self, path: str, note: Callable[[int], None]) -> None:
        """Read an event stream for ever, and tell the number of each event."""
        await self._send(path, None)
        await self._head()
        while line := await self._reader.readline():
            if line.startswith(b"id: "):
                note(int(line[4:]))

    def close(self) -> None:
        self._writer.close()

    async def _send(self, path: str, tag: str | None) -> None:
        known = "" if tag is None else f"If-None-Match: {tag}\r\n"
        self._writer.write(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\n{known}\r\n".encode()
        )
        await self._writer.drain()

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        status = int(first.split()[1])
        if status not in (200, 304):
            raise RuntimeError(f"the API answered {first!r}")
        return status, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def change(database_url: str, jobs: list[str], seconds: float, results: Connection) -> None:
    """Let each job make progress once a second; sends when each event was there. A process of its own."""
    database = open_database(database_url)
    database.ping()
    results.send("ready")
    made: Changes = {}
    begin = time.monotonic()
    number = 0
    while (moment := time.monotonic() - begin) < seconds:
        due = number / len(jobs)
        if due > moment:
            time.sleep(due - moment)
        job = jobs[number % len(jobs)]
        turn = number // len(jobs)
        told = Progress(stage="step", step=0, steps=1, fraction=0.5, epoch=turn + 1, epochs=9_999)
        with database.session() as session:
            assert append_events(session, job, 1, [told])
        made[job, turn] = time.time()
        number += 1
    database.dispose()
    results.send(made)


async def poll(target: Target, path: str, number: int, pause: float, seen: Seen) -> None:
    """Ask at a steady rate; the first asks are spread over one pause."""
    line = await target.open()
    await asyncio.sleep(pause * number / 500 % pause)
    tag = None
    due = time.perf_counter()
    while True:
        _, tag, _ = await line.ask(path, tag)
        seen.answers.append(time.perf_counter() - due)
        due = max(due + pause, time.perf_counter() - pause)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def wait(target: Target, job: str, seen: Seen) -> None:
    """Long polls, one after the other; the epoch that an answer tells of is the number of the change."""
    line = await target.open()
    tag = None
    while True:
        status, tag, body = await line.ask(f"/v1/jobs/{job}?wait=30", tag)
        progress = json.loads(body)["progress"] if status == 200 else None
        if progress is not None:
            seen.arrivals.append((job, progress["epoch"] - 1, time.time()))


async def stream(target: Target, job: str, first: int, seen: Seen) -> None:
    """An event stream; events up to number `first` were there before."""
    line = await target.open()
    await line.follow(
        f"/v1/jobs/{job}/events?last_event_id={first}",
        lambda number: seen.arrivals.append((job, number - first - 1, time.time())),
    )


async def probe(target: Target, seen: Seen) -> None:
    line = await target.open()
    while True:
        begin = time.perf_counter()
        await line.ask(CONSTANT)
        seen.probes.append(time.perf_counter() - begin)
        await asyncio.sleep(PROBE_PAUSE)


async def watch(
    target: Target, clients: Iterable[Callable[[Seen], Awaitable[None]]], seconds: float, warm_up: float = 3.0
) -> Seen:
    """Let the clients be there for so long; what they met with after the first moments."""
    seen = Seen()
    tasks = [asyncio.ensure_future(client(seen)) for client in clients]
    tasks += [asyncio.ensure_future(probe(target, seen)) for _ in range(PROBES)]
    await asyncio.sleep(warm_up)
    seen.answers.clear(), seen.arrivals.clear(), seen.probes.clear()
    await asyncio.sleep(seconds)
    for task in tasks:
        if task.done():
            task.result()  # raises what ended it
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return seen


def changing(
    database_url: str, jobs: list[str], seconds: float, clients: Callable[[], Awaitable[Seen]]
) -> tuple[Seen, list[float]]:
    """What clients met with while jobs change, and the seconds from each change to each arrival."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=change, args=(database_url, jobs, seconds, theirs))
    process.start()
    assert ours.recv() == "ready"

    async def run() -> Seen:
        return await clients()

    seen = uvloop.run(run())
    made: Changes = ours.recv()
    process.join()
    return seen, [moment - made[job, turn] for job, turn, moment in seen.arrivals if (job, turn) in made]


def at_work(api: Api, number: int) -> list[str]:
    """Jobs that a worker holds."""
    tenant = Tenant(api.database, api.team_id)
    model = tenant.upload_model()
    for _ in range(number):
        tenant.submit(model)
    found = []
    for _ in range(number):
        with api.database.session() as session:
            claimed = claim_job(session, "benchmark", 3_600)
            assert claimed is not None
            found.append(claimed.id)
    return found


def percentiles(name: str, seconds: list[float], **bound: float) -> list[Figure]:
    """Median and 99th percentile."""
    return [
        Figure(f"{name}, median", 1e3 * median(seconds), "ms", **bound),
        Figure(f"{name}, 99th percentile", 1e3 * quantiles(seconds, n=100)[-1], "ms"),
    ]


def measure(api: Api, database_url: str, clients: int, jobs: int, seconds: float, pause: float) -> list[Figure]:
    """Each kind of clients in turn."""
    target = Target(api.port, api.key)
    crowd = range(clients)
    figures = []

    async def asked(path: Callable[[int], str]) -> Seen:
        return await watch(
            target,
            [
                lambda seen, number=number: poll(target, path(number), number, pause, seen)  # type: ignore[misc]
                for number in crowd
            ],
            seconds,
        )

    seen = uvloop.run(asked(lambda _: CONSTANT))
    figures += percentiles("the constant", seen.answers)

    names = at_work(api, jobs)
    seen, _ = changing(database_url, names, seconds + 4, lambda: asked(lambda n: f"/v1/jobs/{names[n % jobs]}"))
    figures += percentiles("polls", seen.answers) + percentiles("the constant, beside polls", seen.probes)

    waiting = at_work(api, jobs)

    async def waited() -> Seen:
        return await watch(
            target,
            [lambda seen, n=n: wait(target, waiting[n % jobs], seen) for n in crowd],  # type: ignore[misc]
            seconds,
        )

    seen, late = changing(database_url, waiting, seconds + 4, waited)
    figures += percentiles("long polls, change to arrival", late)
    figures += percentiles("the constant, beside long polls", seen.probes)

    streamed = at_work(api, jobs)

    async def followed() -> Seen:
        return await watch(
            target,
            [lambda seen, n=n: stream(target, streamed[n % jobs], 2, seen) for n in crowd],  # type: ignore[misc]
            seconds,
        )

    seen, late = changing(database_url, streamed, seconds + 4, followed)
    figures += percentiles("streams, change to arrival", late)
    return figures + percentiles("the constant, beside streams", seen.probes)


def main() -> None:
    """Measure, write, print."""
    parser = arguments("watchers", __doc__ or "")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=50, help="jobs at work, each watched by as many clients")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each kind of clients is watched")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between a client's polls")
    options = parser.parse_args()
    conditions = {
        "clients": options.clients,
        "jobs": options.jobs,
        "changes_per_second": options.jobs,
        "polls_per_second": options.clients / options.pause,
        "seconds": options.seconds,
        "api_processes": 1,
        "database": "postgresql",
    }
    with tempfile.TemporaryDirectory(prefix="modelpress-watchers-") as name, postgres_server() as database_url:
        environment = service_environment(home=name, database_url=database_url)
        with run_api(environment, Path(name), database_url) as api:
            figures = measure(api, database_url, options.clients, options.jobs, options.seconds, options.pause)
    publish(options.output, f"{options.clients} clients that watch jobs", conditions, figures)


if __name__ == "__main__":
    main()
