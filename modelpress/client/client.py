"""The client of a ModelPress service."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from modelpress.client.address import find_address
from modelpress.client.connection import Connection, Request
from modelpress.client.errors import UploadRejected, WaitTimedOut
from modelpress.client.job import JobHandle
from modelpress.client.upload import UploadProgress, send_file
from modelpress.spec.architecture import Architecture, Family
from modelpress.spec.job import JobSpec
from modelpress.spec.method import Method
from modelpress.spec.network import Interpolation
from modelpress.spec.recipes import ReadyRecipe
from modelpress.spec.resources import Dataset, Job, JobCheck, Model, Page
from modelpress.spec.state import JobState, UploadState

PAGE = 100
# Between two looks at an upload that is being inspected: quick for a small file, kind to the service for a long one.
FIRST_LOOK, LONGEST_LOOK = 0.1, 2.0

Item = TypeVar("Item")
AnUpload = TypeVar("AnUpload", Model, Dataset)

_METHODS = TypeAdapter(list[Method])
_RECIPES = TypeAdapter(list[ReadyRecipe])
_ARCHITECTURES = TypeAdapter(list[Architecture])


class Client:
    """A ModelPress service, as a team sees it.

    `url` and `key` are taken from `MODELPRESS_URL` and `MODELPRESS_API_KEY` where not given, then from the embedded
    service of this machine. `timeout` is in seconds, for one answer. Calls are synchronous, and may be made
    from several threads. Every call raises ApiError when the service refuses it and ConnectionFailed when it
    cannot be reached; calls that may be repeated are, five times within eight seconds or as it asks, before that.

        with Client() as client:
            model = client.upload_model("vgg19.safetensors", architecture="vgg19_bn_cifar")
            data = client.upload_dataset("cifar10.zip")
            job = client.submit({"model": model.id, "dataset": data.id, "steps": [{"kind": "prune", "sparsity": 0.75}]})
            job.wait()
            job.download("result")
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, timeout: float = 60.0) -> None:
        self._connection = Connection(find_address(url, key), timeout)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._connection.url

    def close(self) -> None:
        """Close all connections."""
        self._connection.close()

    def upload_model(
        self,
        path: str | Path,
        *,
        architecture: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        name: str | None = None,
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resize: int | Literal["stretch"] | None = None,
        interpolation: Interpolation = "bilinear",
        wait: bool = True,
        timeout: float = 600.0,
        on_progress: UploadProgress | None = None,
    ) -> Model:
        """Upload an exported network (`.pt2`, ONNX), a state dict of a named architecture, or a job's artifact.

        A state dict is a safetensors file, or a `.pt` of tensors alone. `model.mpz` and `model.safetensors` of a job
        say themselves which network they hold; leave the rest out.

        `arguments` are those of the architecture's constructor, such as `{"num_classes": 10}`. `image_size` is the
        height and width where not the architecture's own. `mean` and `std` (per channel, of pixels scaled to 0..1)
        say how the model was trained to see its input; left out, they are those of the weights that timm or torchvision
        publishes of the architecture, or else estimated from the data set. `resize` with them says how images of any
        size are brought to the input's: to so many pixels of the shorter side before the middle is cut out, or both
        sides (`"stretch"`); left out, images must have the input's size. With `wait`, returns when the file was
        inspected, after at most `timeout` seconds. `on_progress` is told bytes sent and bytes in all. Raises
        UploadRejected with the reason when the file cannot be used, and WaitTimedOut.
        """
        path = Path(path)
        params: dict[str, str | int] = {"name": name or path.name}
        if architecture is not None:
            params["architecture"] = architecture
        if arguments:
            params["arguments"] = json.dumps(arguments)
        if image_size is not None:
            params["image_size"] = image_size
        if mean is not None:
            params["mean"] = ",".join(map(str, mean))
        if std is not None:
            params["std"] = ",".join(map(str, std))
        if resize is not None:
            params["resize"], params["interpolation"] = resize, interpolation
        answer = send_file(self._connection, "/v1/models", path, params, on_progress)
        model = Model.model_validate_json(answer)
        return self._until_inspected(model, self.model, timeout) if wait else model

    def upload_dataset(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        wait: bool = True,
        timeout: float = 600.0,
        on_progress: UploadProgress | None = None,
    ) -> Dataset:
        """Upload a data set: an archive of class folders, of CIFAR as published, arrays, and what else the guide lists.

        `wait`, `timeout`, `on_progress` and errors as for `upload_model`.
        """
        path = Path(path)
        answer = send_file(self._connection, "/v1/datasets", path, {"name": name or path.name}, on_progress)
        dataset = Dataset.model_validate_json(answer)
        return self._until_inspected(dataset, self.dataset, timeout) if wait else dataset

    def model(self, model_id: str) -> Model:
        """An uploaded model."""
        return Model.model_validate_json(self._get(f"/v1/models/{model_id}"))

    def dataset(self, dataset_id: str) -> Dataset:
        """An uploaded data set."""
        return Dataset.model_validate_json(self._get(f"/v1/datasets/{dataset_id}"))

    def models(self) -> Iterator[Model]:
        """The team's models, newest first."""
        return self._pages("/v1/models", Page[Model])

    def datasets(self) -> Iterator[Dataset]:
        """The team's data sets, newest first."""
        return self._pages("/v1/datasets", Page[Dataset])

    def delete_model(self, model_id: str) -> None:
        """Delete a model. Refused (409) while a job that is not at its end uses it."""
        self._connection.delete(f"/v1/models/{model_id}")

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a data set. Refused (409) while a job that is not at its end uses it."""
        self._connection.delete(f"/v1/datasets/{dataset_id}")

    def submit(
        self, spec: JobSpec | Mapping[str, Any], *, reuse: bool | None = None, idempotency_key: str | None = None
    ) -> JobHandle:
        """Hand in a job and return at once.

        Where your team has a job that was the same and succeeded, this one has succeeded already, with that one's
        result (`resource.reused_from` names it); `reuse=False` has it run, whatever the spec says.

        The same `idempotency_key` with the same spec always names the same job; one is drawn for each call when none
        is given, so that a repeat after a lost answer does not make a second job.
        """
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        response = self._connection.send(Request("POST", "/v1/jobs", json=_body(spec, reuse), headers=headers))
        return JobHandle(self._connection, Job.model_validate_json(response.content))

    def check(self, spec: JobSpec | Mapping[str, Any], *, reuse: bool | None = None) -> JobCheck:
        """Ask whether a job would be accepted, and whether it would be run, without handing it in.

        Raises ApiError with what does not fit.
        """
        request = Request("POST", "/v1/jobs", params={"dry_run": "true"}, json=_body(spec, reuse))
        response = self._connection.send(request)
        return JobCheck.model_validate_json(response.content)

    def job(self, job_id: str) -> JobHandle:
        """A job by its id."""
        response = self._connection.send(Request("GET", f"/v1/jobs/{job_id}"))
        return JobHandle(self._connection, Job.model_validate_json(response.content), response.headers.get("ETag"))

    def jobs(self, *, state: JobState | str | None = None, model: str | None = None) -> Iterator[Job]:
        """The team's jobs, newest first; of one state, or of one model."""
        filters = {"state": str(state) if state is not None else None, "model": model}
        return self._pages("/v1/jobs", Page[Job], {name: value for name, value in filters.items() if value is not None})

    def delete_job(self, job_id: str) -> None:
        """Delete a job with its files, report, log and events. Refused (409) while it is not at its end."""
        self._connection.delete(f"/v1/jobs/{job_id}")

    def methods(self) -> list[Method]:
        """The methods of the service, with the JSON Schema of each one's step."""
        return _METHODS.validate_json(self._get("/v1/methods"))

    def recipes(self) -> list[ReadyRecipe]:
        """The ready recipes of the service."""
        return _RECIPES.validate_json(self._get("/v1/recipes"))

    def architectures(self, family: Family | None = None) -> list[Architecture]:
        """The architectures of the service, or those whose modules the people of `family` wrote."""
        params = {} if family is None else {"family": family}
        request = Request("GET", "/v1/architectures", params=params)
        return _ARCHITECTURES.validate_json(self._connection.send(request).content)

    def _get(self, route: str) -> bytes:
        return self._connection.send(Request("GET", route)).content

    def _pages(self, route: str, page: type[Page[Item]], params: Mapping[str, str] | None = None) -> Iterator[Item]:
        query: dict[str, str | int] = {"limit": PAGE, **(params or {})}
        while True:
            answer = page.model_validate_json(self._connection.send(Request("GET", route, params=query)).content)
            yield from answer.items
            if answer.next is None:
                return
            query["after"] = answer.next

    def _until_inspected(self, upload: AnUpload, look: Callable[[str], AnUpload], timeout: float) -> AnUpload:
        deadline = time.monotonic() + timeout
        pause = FIRST_LOOK
        while upload.state is UploadState.INSPECTING:
            if time.monotonic() > deadline:
                raise WaitTimedOut(
                    f"{upload.id} is still being inspected after {timeout:g} s; it goes on, and it is not lost"
                )
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOOK)
            upload = look(upload.id)
        if upload.state is UploadState.REJECTED:
            raise UploadRejected(upload)
        return upload


def _body(spec: JobSpec | Mapping[str, Any], reuse: bool | None) -> Any:
    body = spec.model_dump(mode="json") if isinstance(spec, JobSpec) else dict(spec)
    return body if reuse is None else body | {"reuse": reuse}
