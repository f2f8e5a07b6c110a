"""What a query refuses to do. None of these knows HTTP.

DatabaseError
+-- NotFound              no such row for this team (another team's row is no row)
|   +-- InputDeleted      a job cannot be retried: its model or data set was deleted
+-- InUse                 a model or data set cannot be deleted while a job that is not finished uses it
+-- InvalidTransition     the job's state does not allow it
+-- IdempotencyMismatch   the idempotency key was used before for another job
+-- InvalidText           a text holds a character that the database cannot store
+-- UnusableDatabase      the address of the database, or what stands there, cannot be used
"""

from __future__ import annotations

from modelpress.spec.state import JobState


class DatabaseError(Exception):
    """A query refused; the message says what is wrong and what to do."""


class NotFound(DatabaseError):
    """No such row for this team (another team's row is no row)."""

    def __init__(self, kind: str, row_id: str) -> None:
        super().__init__(f"there is no {kind} {row_id!r}")
        self.kind = kind
        self.row_id = row_id


class InputDeleted(NotFound):
    """A job cannot be retried: its model or data set was deleted."""

    def __init__(self, kind: str, row_id: str) -> None:
        super().__init__(kind, row_id)
        self.args = (f"the {kind} {row_id!r} of this job was deleted; upload it again and submit a new job",)


class InUse(DatabaseError):
    """A model or data set cannot be deleted while a job that is not finished uses it."""

    def __init__(self, kind: str, row_id: str, job_id: str) -> None:
        super().__init__(f"job {job_id!r} still uses the {kind} {row_id!r}; wait for it, or cancel it first")
        self.kind = kind
        self.row_id = row_id
        self.job_id = job_id


class InvalidTransition(DatabaseError):
    """The job's state does not allow it."""

    def __init__(self, state: JobState, action: str) -> None:
        super().__init__(f"a job that is {state.value} cannot be {action}")
        self.state = state
        self.action = action


class IdempotencyMismatch(DatabaseError):
    """The idempotency key was used before for another job."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} was used before, for job {job_id!r} with another spec; use a new key"
        )
        self.key = key
        self.job_id = job_id


class InvalidText(DatabaseError):
    """A text holds a character that the database cannot store."""

    def __init__(self, field: str) -> None:
        super().__init__(f"`{field}` holds the character U+0000, which cannot be stored; leave it out")
        self.field = field


class UnusableDatabase(DatabaseError):
    """The address of the database, or what stands there, cannot be used."""
