"""The commands of docker-compose.yml, run by hand: what the images run, out of the wheel that they install.

Real PostgreSQL and Redis, and a real S3-compatible server in the place of the object store. Only names of hosts and
ports are translated; commands, settings and secrets are the compose file's own. What is left untested is the build of
the images.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sqlalchemy import make_url

import modelpress
from modelpress.client import Client
from modelpress.engine.architectures.registry import build
from modelpress.spec.architecture import ArchitectureRef
from tests.deployment.compose import read_env, read_services
from tests.support.free_port import free_port
from tests.support.processes import running, wait_until_ready
from tests.support.s3_server import run_s3_server

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Deployment:
    """The compose file's services, and where the servers that it names really are."""

    services: dict[str, Any]
    code: Path  # the unpacked wheel
    folder: Path
    addresses: dict[str, str]  # pattern in the compose file -> what stands for it here
    ports: dict[str, str]

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment, with the servers' addresses translated, and nothing of ours but the search path."""
        settings = dict(self.services[name]["environment"])
        for old, new in self.addresses.items():
            assert any(old in value for value in settings.values()), old
            settings = {key: value.replace(old, new) for key, value in settings.items()}
        for old, new in self.ports.items():
            settings = {key: new if value == old else value for key, value in settings.items()}
        home = self.folder / name
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.code), "MODELPRESS_HOME": str(home), **settings}

    def command(self, name: str, *arguments: str) -> list[str]:
        """What a service runs, with this Python in the place of the image's."""
        service = self.services[name]
        words = [*service.get("entrypoint", []), *(arguments or service["command"])]
        if words[:2] == ["tini", "--"]:
            words = words[2:]
        for old, new in self.ports.items():
            words = [re.sub(rf"^{old}$", new, word) for word in words]
        program = [sys.executable, "-m", words[0]] if words[0] == "uvicorn" else [sys.executable]
        assert words[0] in ("uvicorn", "python")
        return [*program, *words[1:]]

    def run_once(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a service that ends by itself."""
        done = subprocess.run(
            self.command(name, *arguments),
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def deployment(
    env_file: Path, wheel: Path, tmp_path: Path, new_postgres_url: Callable[..., str], redis_url: str
) -> Iterator[Deployment]:
    """The compose file over real servers, nothing started."""
    code = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(code)
    variables = read_env(env_file)
    postgres = make_url(new_postgres_url())
    with run_s3_server() as s3:
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name="garage",
            aws_access_key_id=variables["S3_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["S3_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket="modelpress", CreateBucketConfiguration={"LocationConstraint": "garage"})
        client.close()
        yield Deployment(
            services=read_services(variables),
            code=code,
            folder=tmp_path,
            addresses={
                f"modelpress:{variables['POSTGRES_PASSWORD']}@postgres:5432/modelpress": (
                    f"{postgres.username}@/{postgres.database}?host={postgres.query['host']}"
                ),
                f":{variables['REDIS_PASSWORD']}@redis:6379/0": redis_url.removeprefix("redis://"),
                "http://garage:3900": s3.endpoint,
            },
            ports={
                "8000": str(free_port()),
                "9100": str(free_port(2)),  # the worker's metrics, and the inspector's at the next
            },
        )


def test_from_an_empty_database_to_a_verified_download(deployment: Deployment, tmp_path: Path) -> None:
    deployment.run_once("migrate")
    key = deployment.run_once("admin", "create-key", "--team", "vision").stdout.strip()
    url = f"http://127.0.0.1:{deployment.ports['8000']}"
    metrics = int(deployment.ports["9100"])
    model, dataset = _tiny_inputs(tmp_path)

    with ExitStack() as stack:
        processes = {}
        for name in ("api", "worker", "inspector"):
            log = tmp_path / f"{name}.log"
            processes[name] = stack.enter_context(
                running(deployment.command(name), deployment.environment(name), log, tmp_path)
            )
        wait_until_ready(f"{url}/readyz", processes["api"], tmp_path / "api.log")
        # What the compose file's health checks of the workers ask.
        wait_until_ready(f"http://127.0.0.1:{metrics}/metrics", processes["worker"], tmp_path / "worker.log")
        wait_until_ready(f"http://127.0.0.1:{metrics + 1}/metrics", processes["inspector"], tmp_path / "inspector.log")
        assert httpx.get(f"{url}/v1/jobs").status_code == 401

        with Client(url, key) as client:
            model_id = client.upload_model(model, architecture="snn_1k", mean=(0.5,) * 3, std=(0.25,) * 3).id
            dataset_id = client.upload_dataset(dataset).id
            job = client.submit(
                {
                    "model": model_id,
                    "dataset": dataset_id,
                    "steps": [{"kind": "prune", "sparsity": 0.75}],
                    "artifacts": ["compact", "safetensors"],
                }
            )
            job.wait(timeout=240)
            files = {path.name: path for path in job.download(tmp_path / "result")}
            report = job.report

        proofs = {proof.file: proof for proof in report.proofs}
        assert set(proofs) == {"model.mpz", "model.safetensors"}
        for name, proof in proofs.items():
            assert hashlib.sha256(files[name].read_bytes()).hexdigest() == proof.sha256
        assert report.baseline.accuracy is not None
        weights = [p for p in modelpress.load(files["model.mpz"]).parameters() if p.ndim > 1]
        share = sum(int((p == 0).sum()) for p in weights) / sum(p.numel() for p in weights)
        assert share == pytest.approx(0.75, abs=1e-5)

    # Asked to end, each did so in order; uvicorn then passes the signal on to itself.
    assert (processes["worker"].returncode, processes["inspector"].returncode) == (0, 0)
    assert "Application shutdown complete" in (tmp_path / "api.log").read_text()


def test_the_code_that_runs_is_the_wheels(deployment: Deployment) -> None:
    rooms = ("api", "worker", "service", "db", "storage", "modelpress")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import {', '.join(rooms)}; print(*({', '.join(f'{r}.__file__' for r in rooms)}), sep='\\n')",
        ],
        env=deployment.environment("api"),
        cwd=deployment.folder,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [f"{deployment.code}/{room}/__init__.py" for room in rooms], done.stderr


def test_an_api_that_was_not_migrated_says_so(deployment: Deployment, tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    with running(deployment.command("api"), deployment.environment("api"), log, tmp_path) as process:
        wait_until_ready(f"http://127.0.0.1:{deployment.ports['8000']}/healthz", process, log)
        assert httpx.get(f"http://127.0.0.1:{deployment.ports['8000']}/readyz", timeout=10).status_code == 503


def _tiny_inputs(folder: Path) -> tuple[Path, Path]:
    torch.manual_seed(0)
    model, dataset = folder / "model.safetensors", folder / "images.npz"
    save_file(build(ArchitectureRef(architecture="snn_1k")).state_dict(), model)
    draw = np.random.default_rng(0)
    np.savez(
        dataset,
        images=draw.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8),
        labels=np.arange(200, dtype=np.int64) % 10,
    )
    return model, dataset
