"""What can go wrong for a caller of the client.

ModelPressError
+-- NotConfigured        no address or no key was given, and none was found
+-- ConnectionFailed     the service cannot be reached, or the connection broke and retries did not help
+-- ApiError             the service refused a request; carries its problem document
+-- UploadRejected       an uploaded file is not a model or a data set that can be used; carries the upload
+-- JobFailed            the job came to its end without a result; carries the job
+-- JobCancelled         the job was cancelled; carries the job
+-- JobUnfinished        something was asked of a job that only a job at its end has
+-- WaitTimedOut         the time given for waiting ran out; what was waited for goes on
+-- IntegrityError       what arrived is not what the service said it would send
+-- InvalidRecipe        a recipe's file or flags cannot be read
+-- CompressionFailed    `compress` (the engine alone, without a service) failed; carries the failure
"""

from __future__ import annotations

from modelpress.spec.failure import Failure
from modelpress.spec.resources import Dataset, Job, Model, Problem


class ModelPressError(Exception):
    """Base of every error that the client raises. Its text says what is wrong and what to do."""


class NotConfigured(ModelPressError):
    """No address or no key was given, and none was found."""


class ConnectionFailed(ModelPressError):
    """The service cannot be reached, or the connection broke and retries did not help."""


class ApiError(ModelPressError):
    """The service refused a request."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(_problem_text(problem))

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status


class UploadRejected(ModelPressError):
    """An uploaded file is not a model or a data set that can be used."""

    def __init__(self, upload: Model | Dataset) -> None:
        self.upload = upload
        super().__init__(upload.failure.message if upload.failure else f"{upload.id} was rejected")


class JobFailed(ModelPressError):
    """The job came to its end without a result. A job that missed its goal still has its files and its report."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"{job.id} failed: {failure_text(job.failure)}")


class JobCancelled(ModelPressError):
    """The job was cancelled."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(f"{job.id} was cancelled; `retry` puts it back into the queue")


class JobUnfinished(ModelPressError):
    """Something was asked of a job that only a job at its end has."""


class WaitTimedOut(ModelPressError):
    """The time given for waiting ran out; what was waited for goes on."""


class IntegrityError(ModelPressError):
    """What arrived is not what the service said it would send."""


class InvalidRecipe(ModelPressError):
    """A recipe's file or flags cannot be read."""


class CompressionFailed(ModelPressError):
    """`compress` (the engine alone, without a service) failed."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure_text(failure))


def failure_text(failure: Failure | None) -> str:
    """A failure as one line: what, where, and what to do."""
    if failure is None:
        return "no reason is known"
    where = "" if failure.step is None else f" in step {failure.step + 1}"
    return f"{failure.kind.value}{where}: {failure.message}"


def _problem_text(problem: Problem) -> str:
    text = problem.detail or problem.title
    details = [f"{error.where}: {error.message}" for error in problem.errors if error.message not in text]
    return "; ".join([text, *details])
