"""What the API itself refuses; storage, database and spec have errors of their own. None of these knows HTTP.

Refusal
+-- NoKey               no API key, or none that is valid
+-- MissingScope        the key may not do this
+-- NotThere            no such thing for this team (another team's is none)
+-- InvalidRequest      fields of the request that are wrong, each named
|   +-- UnfitSpec       the recipe does not fit the model or the data set
+-- NotReady            the upload has not been inspected yet
+-- UnusableUpload      the upload was inspected and rejected
+-- NoReport            the job has no report
+-- BodyTooLarge        the body is above the limit
+-- EmptyBody           there is no body where there should be a file
+-- OtherMediaType      the body is not of the kind that is taken here
+-- HashMismatch        the body does not have the hash that was declared
+-- RangeOutside        the range that was asked for begins after the file's end
"""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.spec.resources import FieldError


class Refusal(Exception):
    """The request is not carried out; the message says why, and what to do.

    `where` is the field of the request that it is about (`steps.0.student.model`), where it is about one.
    """

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(message)
        self.where = where


class NoKey(Refusal):
    """No API key, or none that is valid."""


class MissingScope(Refusal):
    """The key may not do this."""


class NotThere(Refusal):
    """No such thing for this team (another team's is none)."""

    def __init__(self, kind: str, row_id: str, where: str | None = None) -> None:
        super().__init__(
            f"there is no {kind} {row_id!r}; it was never there, was deleted, or belongs to another team", where
        )


class InvalidRequest(Refusal):
    """Fields of the request that are wrong, each named."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.where}: {error.message}" for error in errors))
        self.errors = tuple(errors)


class UnfitSpec(InvalidRequest):
    """The recipe does not fit the model or the data set."""


class NotReady(Refusal):
    """The upload has not been inspected yet."""


class UnusableUpload(Refusal):
    """The upload was inspected and rejected."""


class NoReport(Refusal):
    """The job has no report."""


class BodyTooLarge(Refusal):
    """The body is above the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is above the limit of {limit:,} bytes; send less, or ask who runs this to raise it")
        self.limit = limit


class EmptyBody(Refusal):
    """There is no body where there should be a file."""


class OtherMediaType(Refusal):
    """The body is not of the kind that is taken here."""


class HashMismatch(Refusal):
    """The body does not have the hash that was declared."""


class RangeOutside(Refusal):
    """The range that was asked for begins after the file's end."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins after the end of the file, which has {size:,} bytes")
        self.size = size
