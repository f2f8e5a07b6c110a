"""A real S3-compatible server on a free port of loopback."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import httpx

from storage.s3 import S3Credentials
from tests.support.free_port import free_port


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    credentials: S3Credentials

    def make_bucket(self, name: str) -> str:
        """Make a bucket; gives its name."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.credentials.access_key_id,
            aws_secret_access_key=self.credentials.secret_access_key,
        )
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name


@contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """Start the server as a process; stop it at the end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = S3Server(f"http://127.0.0.1:{port}", S3Credentials("tester", "not-a-secret"))
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the S3 server ended with {process.returncode}")
            try:
                httpx.get(server.endpoint, timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            raise RuntimeError("the S3 server did not answer within a minute")
        yield server
    finally:
        process.terminate()
        process.wait()
