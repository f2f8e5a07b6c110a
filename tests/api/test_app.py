"""The process: what it loads, and what it refuses to start with."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from db.database import open_database
from service.settings import Settings
from tests.support.api_server import run_api
from tests.support.free_port import free_port

_SERVE = """
import sys
import uvicorn
from api.app import create_app
from service.settings import Settings

class Probe:
    async def __call__(self, scope, receive, send):
        if scope.get("path") == "/modules":
            body = " ".join(sys.modules).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
        else:
            await self.app(scope, receive, send)

probe = Probe()
probe.app = create_app()
uvicorn.run(probe, port=int(sys.argv[1]), log_level="warning")
"""


def test_what_interrupted_uploads_left_is_removed(settings: Settings) -> None:
    incoming = settings.home / "store/incoming"
    incoming.mkdir(parents=True)
    old, young = incoming / "old.part", incoming / "young.part"
    for path in (old, young):
        path.touch()
    os.utime(old, (1_000_000_000, 1_000_000_000))
    with run_api(settings):
        give_up = time.monotonic() + 30
        while old.exists() and time.monotonic() < give_up:
            time.sleep(0.02)
    assert not old.exists()
    assert young.exists()


def test_a_serving_process_loads_no_torch_and_no_numpy(tmp_path: Path) -> None:
    open_database(f"sqlite:///{tmp_path}/modelpress.db").migrate()
    port = free_port()
    environment = {"MODELPRESS_HOME": str(tmp_path), "PATH": "", "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen([sys.executable, "-c", _SERVE, str(port)], env=environment) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(transport=httpx.HTTPTransport(retries=8), base_url=url, timeout=60) as client:
                assert client.get("/readyz").status_code == 200
                assert client.get("/openapi.json").status_code == 200
                assert client.get("/metrics").status_code == 200
                assert client.get("/v1/jobs").status_code == 401
                loaded = set(client.get("/modules").text.split())
        finally:
            process.terminate()
    assert "fastapi" in loaded
    assert loaded.isdisjoint({"torch", "torchvision", "numpy", "onnx", "modelpress.engine", "modelpress.client"})
    assert process.returncode in (0, -15)
