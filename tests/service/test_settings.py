"""Settings: what they are, where they come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import InvalidSettings, Settings, UnsafeSettings, read_settings
from service.settings_table import settings_table

ROOT = Path(__file__).parents[2]
SAFE = {
    "environment": "production",
    "database_url": "postgresql://press:k3c9fq@db.internal/press",
    "broker_url": "redis://:9fkq2h@redis.internal:6379/0",
    "store_url": "s3://models?endpoint=https://s3.internal",
    "s3_access_key_id": "press",
    "s3_secret_access_key": "vb81mz",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith("MODELPRESS_"):
            monkeypatch.delenv(name)


def test_the_page_of_settings_is_that_of_the_code():
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == settings_table(), "run `python -m service.settings > docs/settings.md`"


def test_every_setting_says_what_it_is():
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_everything_of_the_embedded_default_lies_in_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELPRESS_HOME", str(tmp_path / "a folder"))
    settings = read_settings()
    assert settings.database_url == f"sqlite:///{tmp_path}/a folder/modelpress.db"
    assert settings.store_url == f"file://{tmp_path}/a%20folder/store"
    assert settings.work_folder == tmp_path / "a folder" / "work"


def test_the_environment_wins_over_defaults_and_arguments_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELPRESS_PORT", "9000")
    monkeypatch.setenv("MODELPRESS_LEASE_SECONDS", "12.5")
    settings = read_settings(port=9001, home=tmp_path)
    assert (settings.port, settings.lease_seconds) == (9001, 12.5)


def test_the_engine_command_is_split_as_by_a_shell(monkeypatch):
    monkeypatch.setenv("MODELPRESS_ENGINE_COMMAND", "numactl -N0 '/my python' -m modelpress.engine")
    assert read_settings().engine_command == ("numactl", "-N0", "/my python", "-m", "modelpress.engine")


def test_an_empty_variable_is_no_variable(monkeypatch):
    monkeypatch.setenv("MODELPRESS_THREADS", "")
    assert read_settings().threads is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MODELPRESS_DATABSE_URL", "MODELPRESS_DATABASE_URL"),
        ("MODELPRESS_LEASE_SECOND", "MODELPRESS_LEASE_SECONDS"),
        ("MODELPRESS_QQQQ", "docs/settings.md"),
    ],
)
def test_a_misspelt_variable_is_refused_with_what_was_meant(monkeypatch, name, hint):
    monkeypatch.setenv(name, "1")
    with pytest.raises(InvalidSettings, match=hint) as refusal:
        read_settings()
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", ["MODELPRESS_DATA", "MODELPRESS_URL", "MODELPRESS_API_KEY"])
def test_variables_of_clients_and_tests_are_let_pass(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert read_settings().port == 8000


def test_what_kubernetes_tells_of_services_is_let_pass(monkeypatch):
    address = "tcp://10.0.0.1:8000"
    told = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": address,
        "PORT_8000_TCP": address,
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"MODELPRESS_API_{name}", value)
    assert read_settings().port == 8000
    # Without the service's host it may be a setting with a wrong name.
    monkeypatch.delenv("MODELPRESS_API_SERVICE_HOST")
    with pytest.raises(InvalidSettings, match="MODELPRESS_API_PORT"):
        read_settings()


def test_a_value_that_cannot_be_read_is_named_and_a_secret_is_not(monkeypatch):
    monkeypatch.setenv("MODELPRESS_PORT", "999999")
    monkeypatch.setenv("MODELPRESS_S3_SECRET_ACCESS_KEY", "hush-hush")
    with pytest.raises(
        InvalidSettings, match="MODELPRESS_PORT: Input should be less than or equal to 65535"
    ) as refusal:
        read_settings()
    assert "hush-hush" not in str(refusal.value)


def test_no_secret_shows_in_the_repr():
    shown = repr(Settings(**SAFE))
    assert not [secret for secret in ("k3c9fq", "9fkq2h", "vb81mz") if secret in shown]


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1


def test_safe_settings_of_production_are_taken():
    settings = Settings(**SAFE)
    assert settings.s3_credentials is not None
    assert settings.s3_credentials.secret_access_key == "vb81mz"
    assert settings.log_format == "json"


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"database_url": "sqlite:////var/lib/press.db"}, "MODELPRESS_DATABASE_URL=postgresql://"),
        ({"database_url": "postgresql://press@db.internal/press"}, "password in MODELPRESS_DATABASE_URL"),
        ({"database_url": "postgresql://press:Postgres@db.internal/press"}, "password in MODELPRESS_DATABASE_URL"),
        ({"broker_url": "filesystem://"}, "MODELPRESS_BROKER_URL=redis://"),
        ({"broker_url": "redis://redis.internal:6379/0"}, "password in MODELPRESS_BROKER_URL"),
        ({"s3_secret_access_key": "minioadmin"}, "MODELPRESS_S3_SECRET_ACCESS_KEY"),
        ({"s3_secret_access_key": ""}, "MODELPRESS_S3_SECRET_ACCESS_KEY"),
        ({"environment": "embedded", "host": "192.0.2.7"}, "MODELPRESS_ALLOW_OPEN_BIND"),
        ({"environment": "embedded", "host": "press.example"}, "MODELPRESS_ALLOW_OPEN_BIND"),
    ],
)
def test_unsafe_settings_are_refused_with_what_to_set(changes, advice):
    with pytest.raises(UnsafeSettings, match=advice):
        Settings(**{**SAFE, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"database_url": "postgresql://press@/press?host=/run/postgresql"},
        {"database_url": "postgresql://press@127.0.0.1/press"},
        {"broker_url": "redis://localhost:6379/0"},
        {"s3_access_key_id": "", "s3_secret_access_key": ""},
        {"environment": "embedded", "host": "192.0.2.7", "allow_open_bind": True},
        {"environment": "embedded", "host": "::1"},
    ],
)
def test_what_only_this_machine_can_reach_needs_no_password(changes):
    assert Settings(**{**SAFE, **changes})


def test_all_dangers_are_told_at_once():
    with pytest.raises(UnsafeSettings) as refusal:
        Settings(environment="production")
    assert str(refusal.value).count("\n  - ") == 2
