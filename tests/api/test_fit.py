"""Jobs that no worker could hold are refused with what to do; the others are told what they need."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from modelpress.spec.cost import ENGINE_BYTES
from modelpress.spec.inspection import Footprint
from modelpress.spec.needs import Capacity
from tests.support.api_server import ApiServer
from tests.support.problems import read_problem
from tests.support.uploads import dataset_inspection, model_inspection, npz_file, safetensors_file

GIB, MIB = 1 << 30, 1 << 20
SMALL = Capacity(device="cpu", cores=4, memory_bytes=2 * GIB)
GPU = Capacity(device="cuda", cores=4, memory_bytes=2 * GIB, gpu_memory_bytes=1 * GIB)


@pytest.fixture
def spec(server: ApiServer, client: httpx.Client) -> dict[str, Any]:
    """Batches of 1,024 images of 4 MiB each: 4 GiB."""
    model = client.post("/v1/models", params={"architecture": "snn_1k"}, content=safetensors_file()).json()["id"]
    footprint = Footprint(forward_bytes=MIB, training_bytes=4 * MIB)
    server.inspect(model_inspection().model_copy(update={"footprint": footprint}))
    dataset = client.post("/v1/datasets", content=npz_file()).json()["id"]
    server.inspect(dataset_inspection().model_copy(update={"train_examples": 5000, "heldout_examples": 10}))
    training = {"epochs": 2, "batch_size": 1024, "precision": "fp32"}
    return {"model": model, "dataset": dataset, "steps": [{"kind": "finetune", "training": training}]}


def test_a_batch_that_no_worker_can_hold_is_refused_with_one_that_fits(
    server: ApiServer, client: httpx.Client, spec: dict[str, Any]
) -> None:
    server.be_there("small", SMALL)
    (error,) = read_problem(client.post("/v1/jobs", json=spec), 422, "incompatible-spec").errors
    assert error.where == "steps.0.training.batch_size"
    assert "step 0 (finetune) needs at least 4.3 GiB of memory by its estimate, with batches of 1024" in error.message
    assert "cpu, 4 cores, 2.0 GiB of memory" in error.message
    fitting = int(error.message.partition("Lower it to ")[2].partition(",")[0])
    assert 250 < fitting < (2 * GIB - ENGINE_BYTES) // (4 * MIB)
    assert client.get("/v1/jobs").json()["items"] == []
    read_problem(client.post("/v1/jobs?dry_run=true", json=spec), 422, "incompatible-spec")
    # As advised, or as its owner knows better.
    spec["steps"][0]["training"]["batch_size"] = fitting
    assert client.post("/v1/jobs", json=spec).status_code == 202
    spec["steps"][0]["training"]["batch_size"] = 1024
    assert client.post("/v1/jobs", json=spec | {"needs": {"memory_bytes": GIB}}).status_code == 202


def test_half_of_a_batch_is_what_a_gpu_must_hold(server: ApiServer, client: httpx.Client, spec: dict[str, Any]) -> None:
    server.be_there("gpu", GPU)
    (error,) = read_problem(client.post("/v1/jobs", json=spec), 422, "incompatible-spec").errors
    assert "2.0 GiB of GPU memory" in error.message
    assert "`needs.gpu_memory_bytes` (and `needs.device`)" in error.message
    spec["steps"][0]["training"]["batch_size"] = 500
    assert client.post("/v1/jobs", json=spec).status_code == 202


def test_images_lie_in_main_memory_where_a_gpu_computes_too(
    server: ApiServer, client: httpx.Client, spec: dict[str, Any]
) -> None:
    server.be_there("gpu", GPU.model_copy(update={"memory_bytes": 256 * MIB, "gpu_memory_bytes": 80 * GIB}))
    (error,) = read_problem(client.post("/v1/jobs", json=spec), 422, "incompatible-spec").errors
    assert error.where == "needs.memory_bytes"
    assert re.search(r"at least \d+ MiB of main memory, beside that of the GPU", error.message)
    # As advised.
    assert client.post("/v1/jobs", json=spec | {"needs": {"memory_bytes": 200 * MIB}}).status_code == 202


def test_a_network_that_no_worker_can_hold(server: ApiServer, client: httpx.Client, spec: dict[str, Any]) -> None:
    server.be_there("tiny", SMALL.model_copy(update={"memory_bytes": 256 * MIB}))
    spec["steps"] = [{"kind": "prune", "sparsity": 0.5}]
    (error,) = read_problem(client.post("/v1/jobs", json=spec), 422, "incompatible-spec").errors
    assert error.where == "needs.memory_bytes"
    assert re.search(r"the job needs at least \d+ MiB of memory", error.message)


def test_while_no_worker_was_ever_there_a_job_waits(client: httpx.Client, spec: dict[str, Any]) -> None:
    job = client.post("/v1/jobs", json=spec)
    assert job.status_code == 202
    assert job.json()["waiting"]["reason"] == "no_worker"
    assert job.json()["estimate"]["durations"] == []


def test_an_accepted_job_says_what_it_needs_and_how_long_it_runs(
    server: ApiServer, client: httpx.Client, spec: dict[str, Any]
) -> None:
    server.be_there("large", SMALL.model_copy(update={"memory_bytes": 16 * GIB}))
    told = client.post("/v1/jobs?dry_run=true", json=spec).json()["estimate"]
    assert told["step"] == 0
    assert 4 * GIB < told["cpu_memory_bytes"] < 5 * GIB
    (duration,) = told["durations"]
    assert (duration["device"], duration["rough"]) == ("cpu", True)
    job = client.post("/v1/jobs", json=spec).json()
    assert job["estimate"] == told
    assert client.get(f"/v1/jobs/{job['id']}").json()["estimate"] == told
    assert job["run_seconds"] == 0
