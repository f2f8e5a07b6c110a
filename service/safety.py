"""Which settings are not safe to run with, and what to set instead."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qs, unquote, urlsplit

# Passwords that stand in tutorials, images and compose files of others.
KNOWN_SECRETS = frozenset(
    {
        *("admin", "change-me", "changeme", "default", "example", "minioadmin", "modelpress"),
        *("password", "postgres", "redis", "root", "secret", "test"),
    }
)


def find_dangers(
    *,
    environment: str,
    database_url: str,
    broker_url: str,
    store_url: str,
    s3_access_key_id: str,
    s3_secret_access_key: str,
    host: str,
    allow_open_bind: bool,
) -> list[str]:
    """Everything unsafe about these settings, each with what to set; empty when nothing is. Names no secret."""
    dangers = []
    if bool(s3_access_key_id) != bool(s3_secret_access_key):
        dangers.append("set both MODELPRESS_S3_ACCESS_KEY_ID and MODELPRESS_S3_SECRET_ACCESS_KEY, or neither")
    if environment == "embedded":
        if not is_loopback(host) and not allow_open_bind:
            dangers.append(
                f"MODELPRESS_HOST={host} lets other machines in over plain HTTP: keep 127.0.0.1, or set "
                "MODELPRESS_ALLOW_OPEN_BIND=true behind a proxy with TLS"
            )
        return dangers
    if not database_url.startswith("postgres"):
        dangers.append("production needs PostgreSQL: set MODELPRESS_DATABASE_URL=postgresql://user:password@host/name")
    elif _password_is_weak(database_url):
        dangers.append("the password in MODELPRESS_DATABASE_URL is missing or well known: set one of your own")
    if not broker_url.startswith(("redis://", "rediss://", "unix://", "redis+socket://")):
        dangers.append("production needs Redis: set MODELPRESS_BROKER_URL=redis://:password@host:6379/0")
    elif _password_is_weak(broker_url):
        dangers.append("the password in MODELPRESS_BROKER_URL is missing or well known: set one of your own")
    if store_url.startswith("s3://") and s3_access_key_id and s3_secret_access_key.lower() in KNOWN_SECRETS:
        dangers.append("MODELPRESS_S3_SECRET_ACCESS_KEY is a well-known default: set one of your own")
    return dangers


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _password_is_weak(url: str) -> bool:
    """True for a password that anybody would try first, and for none where other machines can reach the server."""
    parts = urlsplit(url)
    if parts.password:
        return unquote(parts.password).lower() in KNOWN_SECRETS
    # A socket in the file system is guarded by its permissions.
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    return bool(host) and not host.startswith("/") and not is_loopback(host)
