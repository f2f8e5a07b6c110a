"""The baseline of downloads: one file through uvicorn and starlette, and nothing else (`PLAIN_FILE` names it)."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route


async def _file(_request: Request) -> FileResponse:
    return FileResponse(os.environ["PLAIN_FILE"])


app = Starlette(routes=[Route("/", _file)])
