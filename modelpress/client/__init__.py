"""The Python client of a ModelPress service, and the command `modelpress`. Needs no torch."""

from __future__ import annotations

from modelpress.client.client import Client
from modelpress.client.errors import (
    ApiError,
    ConnectionFailed,
    IntegrityError,
    JobCancelled,
    JobFailed,
    JobUnfinished,
    ModelPressError,
    NotConfigured,
    UploadRejected,
    WaitTimedOut,
)
from modelpress.client.job import JobHandle

__all__ = [
    "ApiError",
    "Client",
    "ConnectionFailed",
    "IntegrityError",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "JobUnfinished",
    "ModelPressError",
    "NotConfigured",
    "UploadRejected",
    "WaitTimedOut",
]
