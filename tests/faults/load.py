"""Users: they hand in jobs, repeat what was not answered, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

import httpx
from sqlalchemy.exc import SQLAlchemyError

from modelpress.spec.state import JobState
from tests.faults.site import Site

# A user repeats a request for so long; a service that is away for longer than this has lost it.
PATIENCE_SECONDS = 90.0
PAUSE_SECONDS = 0.2

# So many requests of a hundred are sent once more after they were acknowledged.
REPEATED_PERCENT = 25

# What the jobs ask for: epochs of each of their steps. All jobs of a recipe make the same files.
RECIPES: dict[str, tuple[int, ...]] = {"one step": (4,), "two steps": (2, 2)}


@dataclass
class Ledger:
    """What the users know. Written by several threads."""

    acknowledged: dict[str, set[str]] = field(default_factory=dict)  # by idempotency key: the ids that were answered
    sent: set[str] = field(default_factory=set)  # every idempotency key, acknowledged or not
    recipes: dict[str, str] = field(default_factory=dict)  # by idempotency key
    cancelled: set[str] = field(default_factory=set)  # ids of jobs whose cancelling was acknowledged
    refused: list[str] = field(default_factory=list)  # what was answered by no acceptance and no passing error
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, key: str, job_id: str) -> None:
        """A request with this key was answered 202 with this job."""
        with self.lock:
            self.acknowledged.setdefault(key, set()).add(job_id)

    def job_ids(self) -> set[str]:
        """Every job that was acknowledged."""
        with self.lock:
            return {job_id for ids in self.acknowledged.values() for job_id in ids}


class Load:
    """Keeps the service busy from entering to leaving its `with` block, which waits for every answer."""

    def __init__(self, site: Site, seed: str, *, outstanding: int = 4, users: int = 2) -> None:
        """`outstanding` is how many unfinished jobs there shall be at a time, about; it may be changed meanwhile."""
        self.ledger = Ledger()
        self._site, self._seed, self.outstanding = site, seed, outstanding
        self._ended = threading.Event()
        self._numbers = iter(range(1_000_000_000))
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(Random(f"{seed} user {number}"),), name=f"user {number}")
            for number in range(users)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def submit(self, draw: Random, recipe: str | None = None) -> str | None:
        """Hand in one job, again and again until it is answered; gives its id, None when it was not accepted."""
        recipe = recipe or draw.choice(sorted(RECIPES))
        key = self.new_key(recipe)
        job_id = self.send(key, draw)
        if job_id is not None and draw.randrange(100) < REPEATED_PERCENT:
            self.send(key, draw)
        return job_id

    def new_key(self, recipe: str) -> str:
        """An idempotency key that was never used, for a job of this recipe."""
        with self._lock, self.ledger.lock:
            key = f"{self._seed} {next(self._numbers)}"
            self.ledger.sent.add(key)
            self.ledger.recipes[key] = recipe
        return key

    def send(self, key: str, draw: Random) -> str | None:
        """Send the request of this key until it is answered; gives the job's id, None when it was not accepted."""
        spec = self.spec(self.ledger.recipes[key])
        give_up = time.monotonic() + PATIENCE_SECONDS
        answer = "never any"
        while time.monotonic() < give_up:
            try:
                response = self._site.client(draw).post("/v1/jobs", json=spec, headers={"Idempotency-Key": key})
            except httpx.TransportError as error:
                answer = repr(error)
            else:
                if response.status_code == 202:
                    job_id: str = response.json()["id"]
                    self.ledger.note(key, job_id)
                    return job_id
                answer = f"{response.status_code} {response.text[:300]}"
                if response.status_code < 500:
                    break
            time.sleep(PAUSE_SECONDS)
        self.ledger.refused.append(f"{key}: {answer}")
        return None

    def cancel(self, job_id: str, draw: Random) -> JobState | None:
        """Ask for the end of a job; gives the state that was answered, None when it was at its end already."""
        response = self._site.client(draw).post(f"/v1/jobs/{job_id}/cancel")
        if response.status_code == 409:
            return None
        response.raise_for_status()
        with self.ledger.lock:
            self.ledger.cancelled.add(job_id)
        return JobState(response.json()["state"])

    def spec(self, recipe: str) -> dict[str, Any]:
        """The body of a request."""
        steps = [
            {"kind": "prune", "sparsity": 0.3 + 0.2 * number, "training": {"epochs": epochs, "precision": "fp32"}}
            for number, epochs in enumerate(RECIPES[recipe])
        ]
        return {
            "name": recipe,
            "model": self._site.model,
            "dataset": self._site.dataset,
            "steps": steps,
            "artifacts": ["compact", "safetensors"],
            "reuse": False,  # each is to be run
        }

    def _run(self, draw: Random) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                is_room = self._site.unfinished() < self.outstanding
            except SQLAlchemyError:  # the database is being hurt
                is_room = True
            if is_room:
                self.submit(draw)
