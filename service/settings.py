"""Every setting of the service, read once at process start and passed down.

Each comes from the environment variable `MODELPRESS_` + its name in capitals. `python -m service.settings` prints the
table that docs/settings.md holds.

    SettingsError
    +-- InvalidSettings    a value cannot be read, or a variable's name is not known
    +-- UnsafeSettings     it could be read, but running like this would endanger the data or open it to strangers
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

import psutil
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from modelpress.spec.task import LATENCY_SECONDS, MOST_PROCESSES
from service.safety import find_dangers
from storage.s3 import S3Credentials

PREFIX = "MODELPRESS_"

# Read by other parts of the project (the tests' data, the client's address and key), so no typing errors.
FOREIGN = frozenset({"MODELPRESS_DATA", "MODELPRESS_URL", "MODELPRESS_API_KEY"})

# Behind the name of a service in Kubernetes, as its containers are told of it.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$")

ENGINE_COMMAND = (sys.executable, "-m", "modelpress.engine")

_MIB = 1 << 20
_GIB = 1 << 30


class SettingsError(Exception):
    """The process cannot start with these settings."""


class InvalidSettings(SettingsError):
    """A value cannot be read, or a variable's name is not known."""


class UnsafeSettings(SettingsError):
    """Running like this would endanger the data or open it to strangers."""


class Settings(BaseSettings):
    """The settings of API, workers and embedded supervisor. Secrets never appear in its `repr`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        populate_by_name=True,
    )

    environment: Literal["embedded", "production"] = Field(
        default="embedded",
        description="`embedded`: everything on this machine, nothing to install. `production`: servers of their own; "
        "unsafe settings are refused.",
    )
    home: Path = Field(
        default_factory=lambda: Path.home() / ".local/share/modelpress",
        description="Data folder: work folders of running jobs and, in the embedded default, everything else too. "
        "Default: `~/.local/share/modelpress`.",
    )

    # Where things are kept
    database_url: str = Field(
        default_factory=lambda data: f"sqlite:///{data['home'].expanduser().absolute()}/modelpress.db",
        repr=False,
        description="Database: `sqlite:////path/to/file.db` or `postgresql://user:password@host/name`. "
        "Default: `modelpress.db` in the data folder.",
    )
    broker_url: str = Field(
        default="filesystem://",
        repr=False,
        description="Broker of the wake-ups: `redis://:password@host:6379/0`, or `filesystem://` for the data folder.",
    )
    store_url: str = Field(
        default_factory=lambda data: "file://" + quote(f"{data['home'].expanduser().absolute()}/store"),
        description="Store of models, data sets and artifacts: `file:///folder` or "
        "`s3://bucket/prefix?endpoint=https://host&region=name`. Default: `store` in the data folder.",
    )
    s3_access_key_id: SecretStr = Field(
        default=SecretStr(""), description="Name of the S3 key; empty to take the machine's own role."
    )
    s3_secret_access_key: SecretStr = Field(default=SecretStr(""), description="The S3 key's secret.")

    # API
    host: str = Field(default="127.0.0.1", description="Address that the embedded service listens on.")
    port: int = Field(
        default=8000, ge=0, le=65_535, description="Port that the embedded service listens on; 0 for any free one."
    )
    allow_open_bind: bool = Field(
        default=False,
        description="Let the embedded service listen beyond this machine. It speaks plain HTTP: keys can be read on "
        "the way, so put a proxy with TLS before it.",
    )
    upload_limit_bytes: int = Field(default=10 * _GIB, ge=1, description="Largest upload, bytes.")

    # Workers
    lease_seconds: float = Field(
        default=30, ge=1, le=3600, description="A job whose worker gives no sign for so long goes to another, seconds."
    )
    poll_seconds: float = Field(
        default=2, ge=0.1, le=600, description="How often an idle worker looks for work by itself, seconds."
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Attempts of a job or an inspection whose workers or engines are lost, times.",
    )
    wait_limit_seconds: float | None = Field(
        default=None,
        ge=1,
        le=31_536_000,
        description="Longest time of a job in the queue where the job does not say, seconds; empty for none.",
    )
    job_timeout_seconds: float = Field(
        default=86_400, gt=0, description="Longest run of a job, all its attempts together, seconds."
    )
    checkpoint_seconds: float = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How often the state of a training is kept, seconds: as much of it is lost with a worker at most. "
        "That of large networks is kept less often, so that it takes a twentieth of their time at most.",
    )
    step_results_limit_bytes: int = Field(
        default=20 * _GIB,
        ge=0,
        description="What the first steps of jobs made is kept for longer recipes that begin alike, so many bytes for "
        "each team, those that were used last; 0 to keep none.",
    )
    job_retention_seconds: float | None = Field(
        default=None,
        ge=3600,
        le=3_153_600_000,
        description="A job is deleted so long after its end, with its files, report and log, and what was kept of its "
        "first steps, seconds (a month is 2592000); empty to keep jobs until somebody deletes them.",
    )
    inspection_timeout_seconds: float = Field(
        default=600, gt=0, description="Longest inspection of an upload, seconds."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="What jobs compute on: `cpu`, `cuda`, or `auto`, which takes the GPU where there is one.",
    )
    cuda_visible_devices: str | None = Field(
        default=None,
        validation_alias=AliasChoices(f"{PREFIX}CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
        description="The GPUs that this worker's jobs see; empty for what CUDA_VISIBLE_DEVICES says.",
    )
    threads: int | None = Field(
        default=None, ge=1, description="Processor threads of a job; empty for as many as the worker has cores."
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PROCESSES,
        description="Processes that share each batch of a training; empty for one per GPU that a job sees, and one "
        "on the processor.",
    )
    latency_seconds: float = Field(
        default=LATENCY_SECONDS,
        gt=0,
        le=60,
        description="For so long each network is run for each of its latencies, seconds: longer where they vary from "
        "job to job.",
    )
    memory_limit_bytes: int = Field(
        default_factory=lambda: _machine_memory_bytes() * 9 // 10,
        ge=64 * _MIB,
        description="Main memory of a job and everything that it starts, bytes. Default: nine tenths of the machine's.",
    )
    disk_limit_bytes: int = Field(default=50 * _GIB, ge=_MIB, description="Files of a job while it runs, bytes.")
    disk_reserve_bytes: int = Field(
        default=256 * _MIB, ge=0, description="Room that a job must leave on the disk of the work folders, bytes."
    )
    log_limit_bytes: int = Field(
        default=10 * _MIB, ge=4096, description="Length of a job's log, bytes; the rest is cut."
    )
    engine_command: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=lambda: ENGINE_COMMAND,
        min_length=1,
        description="Command that runs the engine; the work folder follows as its last argument. To wrap it, say: "
        "`numactl --cpunodebind=0 python -m modelpress.engine`. Default: `python -m modelpress.engine`.",
    )
    keep_engine_loaded: bool = Field(
        default=True,
        description="Whether each worker keeps a process that has loaded the engine, from which jobs and inspections "
        "start at once instead of after some seconds; about 300 MB. With another engine command there is none.",
    )
    jail: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="The walls around the engine: those of the kernel (Landlock, seccomp) that this machine has, and "
        "Bubblewrap where it is installed and works; `required` to refuse to start where one of the kernel's is "
        "missing, `off` for none.",
    )
    jail_readable: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Files and folders that the engine may read beside its interpreter, libraries, work folder and the "
        "files that its command names; separated by `:`.",
    )
    worker_metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_534,
        description="Port of the jobs worker's Prometheus metrics; the inspections worker's is the next one; 0: none.",
    )
    worker_metrics_host: str = Field(default="127.0.0.1", description="Address that the workers' metrics listen on.")

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`."
    )
    log_format: Literal["console", "json"] = Field(
        default_factory=lambda data: "json" if data["environment"] == "production" else "console",
        description="`console`: lines to read; `json`: one object a line. Default: `json` in production, else "
        "`console`.",
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("engine_command", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator("jail_readable", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @field_validator("jail_readable")
    @classmethod
    def _all_absolute(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in value:
            if not path.is_absolute():
                raise ValueError(f"{path} is not an absolute path")
        return value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        dangers = find_dangers(
            environment=self.environment,
            database_url=self.database_url,
            broker_url=self.broker_url,
            store_url=self.store_url,
            s3_access_key_id=self.s3_access_key_id.get_secret_value(),
            s3_secret_access_key=self.s3_secret_access_key.get_secret_value(),
            host=self.host,
            allow_open_bind=self.allow_open_bind,
        )
        if dangers:
            # Not a ValueError, so that pydantic lets it pass as it is.
            raise UnsafeSettings("these settings are not safe to run with:\n  - " + "\n  - ".join(dangers))
        return self

    @property
    def s3_credentials(self) -> S3Credentials | None:
        """The key for an S3 store; None to take the machine's own role."""
        key_id, secret = self.s3_access_key_id.get_secret_value(), self.s3_secret_access_key.get_secret_value()
        return S3Credentials(access_key_id=key_id, secret_access_key=secret) if key_id else None

    @property
    def work_folder(self) -> Path:
        """Where the work folders of running jobs are."""
        return self.home / "work"

    @property
    def broker_folder(self) -> Path:
        """Where the file-system broker keeps its messages."""
        return self.home / "broker"

    def make_home(self) -> None:
        """Make the data folder, open to this user alone."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Settings of this process: overrides first, then the environment, then defaults.

    `environment` is only for the check of names (default: the process's). Raises InvalidSettings, UnsafeSettings.
    """
    _refuse_unknown(os.environ if environment is None else environment)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'.'.join(map(str, detail['loc'])).upper()}: {detail['msg']}"
            for detail in error.errors()
            if detail["type"] != "default_factory_not_called"  # only follows from another's error
        ]
        raise InvalidSettings("these settings cannot be read:\n  - " + "\n  - ".join(lines)) from None


def child_environment(**settings: object) -> dict[str, str]:
    """This process's environment with these settings in it, for a process of the service that it starts."""
    return {**os.environ, **{f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()}}


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = sorted({name.upper() for name in Settings.model_fields} | {name.removeprefix(PREFIX) for name in FOREIGN})
    for name in sorted(environment):
        rest = name.upper().removeprefix(PREFIX)
        if name.upper().startswith(PREFIX) and rest not in known and not _is_service_link(name, environment):
            near = difflib.get_close_matches(rest, known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/settings.md lists those there are."
            raise InvalidSettings(f"{name} is set, but there is no such setting: {hint}")


def _is_service_link(name: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes put it there: every container is told the addresses of the services beside it."""
    found = _SERVICE_LINK.search(name)
    return found is not None and f"{name[: found.start()]}_SERVICE_HOST" in environment


def _machine_memory_bytes() -> int:
    """Memory of this machine, or of this container where it has a limit of its own, bytes."""
    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


if __name__ == "__main__":
    from service.settings_table import settings_table

    sys.stdout.write(settings_table())
