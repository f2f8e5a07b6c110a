"""Administration, as an operator types it: real processes on a database of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from db.database import open_database
from db.queries.teams import find_key, list_keys
from tests.conftest import opened
from tests.support.rows import new_tenant

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def admin(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MODELPRESS_")}
    return subprocess.run(
        [sys.executable, "-m", "service.admin", *arguments],
        env={**clean, "MODELPRESS_HOME": str(home), **environment},
        capture_output=True,
        text=True,
    )


def test_from_an_empty_folder_to_a_key_and_its_end(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert admin(home, "migrate").returncode == 0
    assert admin(home, "migrate").returncode == 0  # a second time changes nothing

    made = admin(home, "create-key", "--team", "vision", "--name", "laptop", "--scope", "read")
    assert made.returncode == 0, made.stderr
    plaintext = made.stdout.strip()
    other = admin(home, "create-key", "--team", "vision").stdout.strip()

    database = open_database(f"sqlite:///{home}/modelpress.db")
    with database.session(read_only=True) as session:
        key, second = find_key(session, plaintext), find_key(session, other)
        assert key is not None
        assert second is not None
        assert (key.name, key.scopes) == ("laptop", ["read"])
        assert second.scopes == ["read", "write"]
        assert second.team_id == key.team_id  # the same team, not another one of that name
        assert len(list_keys(session, key.team_id)) == 2

    listed = admin(home, "list-keys", "--team", "vision").stdout
    assert key.id in listed
    assert plaintext not in listed

    assert admin(home, "revoke-key", "--team", "vision", key.id).returncode == 0
    with database.session(read_only=True) as session:
        assert find_key(session, plaintext) is None
        assert find_key(session, other) is not None
    database.dispose()


def test_refusals_are_sentences(tmp_path: Path) -> None:
    admin(tmp_path, "migrate")
    for arguments, sentence in [
        (("create-key", "--team", "vision", "--scope", "admin"), "scopes are one or more of read, write"),
        (("list-keys", "--team", "vision"), "there is no team 'vision'"),
    ]:
        result = admin(tmp_path, *arguments)
        assert result.returncode == 1
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr


def test_unsafe_settings_are_refused(tmp_path: Path) -> None:
    result = admin(tmp_path, "migrate", MODELPRESS_ENVIRONMENT="production")
    assert result.returncode == 1
    assert "PostgreSQL" in result.stderr
    assert not (tmp_path / "modelpress.db").exists()


def test_a_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = admin(tmp_path, "migrate", MODELPRESS_DATABASE_URL="postgresql://modelpress@127.0.0.1:1/modelpress")
    assert result.returncode == 1
    assert "the database cannot be used" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_store_is_checked_and_repaired(tmp_path: Path) -> None:
    """Exit codes: 0 when rows and bytes agree or are brought to, 3 when something is left to do."""
    admin(tmp_path, "migrate")
    result = admin(tmp_path, "check-storage", "--read")
    assert (result.returncode, result.stdout) == (0, "")
    assert "rows and bytes agree" in result.stderr

    left = tmp_path / "store/objects/ba" / ABC
    left.parent.mkdir(parents=True)
    left.write_bytes(b"abc")
    with opened(f"sqlite:///{tmp_path}/modelpress.db") as database:
        missing = new_tenant(database).upload_model()
    first = admin(tmp_path, "check-storage")
    assert first.returncode == 3
    assert ABC not in first.stdout  # young
    os.utime(left, (1_000_000_000, 1_000_000_000))

    for arguments, code, done, sentence in [
        ((), 3, ("--repair removes it", "--repair rejects the upload"), "2 faults, 0 repaired, 2 left"),
        (("--repair",), 0, ("removed", "rejected: its owner has to upload it again"), "2 faults, 2 repaired, 0 left"),
    ]:
        result = admin(tmp_path, "check-storage", *arguments)
        assert result.returncode == code, result.stderr
        assert sentence in result.stderr
        head, *lines = result.stdout.splitlines()
        assert head.split() == ["fault", "sha256", "bytes", "named", "by", "what", "to", "do"]
        found = {line.split()[1]: line for line in lines}
        assert set(found) == {ABC, missing.sha256}
        assert found[ABC].split()[::2][:2] == ["unneeded", "3"]
        assert found[ABC].endswith(done[0])
        assert found[missing.sha256].split()[:4] == ["missing", missing.sha256, "-", missing.id]
        assert found[missing.sha256].endswith(done[1])
    assert not left.exists()
    assert admin(tmp_path, "check-storage").returncode == 0


def test_the_store_of_another_database_is_not_repaired_unless_it_is_taken_over(tmp_path: Path) -> None:
    admin(tmp_path, "migrate")
    with opened(f"sqlite:///{tmp_path}/modelpress.db") as database:
        team = new_tenant(database).team_id
    left = tmp_path / "store/objects/ba" / ABC
    left.parent.mkdir(parents=True)
    left.write_bytes(b"abc")
    os.utime(left, (1_000_000_000, 1_000_000_000))
    (tmp_path / "store/owner").write_text("team_of_the_other")
    refused = admin(tmp_path, "check-storage", "--repair")
    assert refused.returncode == 1
    assert "belongs to another database, one with the team team_of_the_other" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert left.exists()
    taken = admin(tmp_path, "check-storage", "--repair", "--take-over")
    assert taken.returncode == 0, taken.stderr
    assert team in taken.stderr
    assert (tmp_path / "store/owner").read_text() == team
    assert not left.exists()


def test_a_store_that_is_away_cannot_be_checked(tmp_path: Path) -> None:
    admin(tmp_path, "migrate")
    store_url = "s3://bucket/x?endpoint=http://127.0.0.1:1"
    keys = {"MODELPRESS_S3_ACCESS_KEY_ID": "a", "MODELPRESS_S3_SECRET_ACCESS_KEY": "b"}
    result = admin(tmp_path, "check-storage", MODELPRESS_STORE_URL=store_url, **keys)
    assert result.returncode == 1
    assert "s3://bucket/x at http://127.0.0.1:1 cannot be used" in result.stderr
    assert "Traceback" not in result.stderr
