"""Rows compared with bytes: what is missing, damaged or left over, and what can be done about it.

    missing     a row names bytes that are not there
    damaged     the bytes under a hash have another one
    size        the bytes are right, and a row says another size
    unneeded    no row names the bytes, and nobody has put them of late

An upload whose bytes are missing or damaged is rejected, which tells its owner to upload it again. What was only kept
because another job may begin alike is forgotten, and computed anew where it is wanted. What a job made
cannot be made good by its owner or by us, and a job that has ended keeps its end: such bytes are named, and whatever
is left of them is kept for the operator, who may have them in a backup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from db.database import Database
from db.queries.step_results import forget_step_results
from db.queries.stored_bytes import Holder, holders, named_beginnings, reject_uploads
from db.queries.uploads import hold_bytes
from modelpress.spec.failure import Failure, FailureKind
from service.stored_bytes import drop_unneeded, read_shard
from storage.store import SHARD_DIGITS, Kept, NotStored, Store

_NEEDS_UPLOAD = Failure(
    kind=FailureKind.INTERNAL, message="the stored bytes of this file are gone or damaged; upload it again"
)


class Fault(StrEnum):
    """How rows and bytes disagree."""

    MISSING = "missing"
    DAMAGED = "damaged"
    SIZE = "size"
    UNNEEDED = "unneeded"


@dataclass(frozen=True)
class Finding:
    """One hash for which rows and bytes disagree."""

    fault: Fault
    sha256: str
    size: int | None  # bytes in the store
    holders: tuple[Holder, ...]  # the rows that name them
    is_repaired: bool = False

    @property
    def advice(self) -> str:
        """What was done, or what to do."""
        kept_for_others = all(holder.kind == "step_result" for holder in self.holders)
        if self.is_repaired and self.fault is Fault.UNNEEDED:
            return "removed"
        if self.is_repaired:
            return "forgotten" if kept_for_others else "rejected: its owner has to upload it again"
        if self.fault is Fault.UNNEEDED:
            return "--repair removes it"
        if self.fault is Fault.SIZE:
            return f"the row says {self.holders[0].size} bytes: report it"
        if kept_for_others:
            return "--repair forgets it: a job that would begin with it computes it anew"
        if _of_jobs(self.holders):
            return "restore it from a backup, or run the job again"
        return "restore it from a backup, or --repair rejects the upload"


def check_storage(
    database: Database, store: Store, *, grace_seconds: float, read: bool = False, repair: bool = False
) -> Iterator[Finding]:
    """Compare every row with every object; `read` reads all bytes, which else are compared by size.

    Safe beside a running service: what is found is looked at again under the lock on its hash. Raises
    StoreUnavailable.
    """
    check = _Check(database, store, repair=repair)
    put_before = store.now() - timedelta(seconds=grace_seconds)
    there = store.shards()
    with database.session(read_only=True) as session:
        begun = named_beginnings(session, SHARD_DIGITS)
    for name in sorted(there | begun):
        shard = read_shard(database, store, name, is_empty=name not in there)
        for kept in shard.unneeded(put_before):
            if repair and not drop_unneeded(database, store, kept.sha256, put_before=put_before):
                continue  # a row names it by now
            yield Finding(Fault.UNNEEDED, kept.sha256, kept.size, (), repair)
        for sha256, named in shard.named.items():
            kept_now = shard.kept.get(sha256)
            if kept_now is None:
                yield from check.missing(sha256)
            elif read or any(holder.size != kept_now.size for holder in named):
                yield from check.read(kept_now, named)


class _Check:
    def __init__(self, database: Database, store: Store, *, repair: bool) -> None:
        self._database = database
        self._store = store
        self._repair = repair

    def missing(self, sha256: str) -> Iterator[Finding]:
        """Whether bytes that were not listed are missing."""
        with self._database.session() as session:
            hold_bytes(session, sha256)
            named = _relying(holders(session, sha256))
            if not named or self._store.exists(sha256):
                return
            if self._repair:
                reject_uploads(session, sha256, _NEEDS_UPLOAD)
                forget_step_results(session, sha256)
        yield Finding(Fault.MISSING, sha256, None, named, self._repair and not _of_jobs(named))

    def read(self, kept: Kept, named: Iterable[Holder]) -> Iterator[Finding]:
        """Whether an object is what its name says. A second look keeps a hiccup of a disk or a network apart."""
        if not (self._is_other(kept) and self._is_other(kept)):
            if other := tuple(holder for holder in named if holder.size != kept.size):
                yield Finding(Fault.SIZE, kept.sha256, kept.size, other)
            return
        with self._database.session() as session:
            hold_bytes(session, kept.sha256, to_drop=True)
            relying = _relying(holders(session, kept.sha256))
            if not relying or not self._is_there_still(kept):
                return
            if self._repair:
                reject_uploads(session, kept.sha256, _NEEDS_UPLOAD)
                forget_step_results(session, kept.sha256)
                if not _of_jobs(relying):
                    # Before the commit, other than bytes that are whole: nothing is lost with these, and once the lock
                    # is gone the same bytes may have been uploaded again.
                    self._store.delete(kept.sha256)
        yield Finding(Fault.DAMAGED, kept.sha256, kept.size, relying, self._repair and not _of_jobs(relying))

    def _is_other(self, kept: Kept) -> bool:
        digest = hashlib.sha256()
        try:
            for piece in self._store.read(kept.sha256):
                digest.update(piece)
        except NotStored:  # deleted meanwhile
            return False
        return digest.hexdigest() != kept.sha256

    def _is_there_still(self, kept: Kept) -> bool:
        try:
            return self._store.look(kept.sha256) == kept
        except NotStored:
            return False


def _relying(named: Iterable[Holder]) -> tuple[Holder, ...]:
    """Without the uploads that are rejected: what they hold is of use to nobody."""
    return tuple(holder for holder in named if not holder.is_rejected)


def _of_jobs(named: Iterable[Holder]) -> bool:
    return any(holder.kind in ("artifact", "checkpoint") for holder in named)
