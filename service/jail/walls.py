"""The walls around one engine, and which of them this machine can raise."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from service.jail import bubblewrap, capabilities, landlock, seccomp
from service.jail.landlock import Reach
from service.jail.machine import forbid_new_privileges


class JailUnavailable(Exception):
    """This machine lacks a wall that the settings require."""


@dataclass(frozen=True)
class Available:
    """The walls that this machine has."""

    landlock: int  # its ABI; 0: none
    seccomp: bool
    bubblewrap: bool = False  # in addition

    @property
    def is_complete(self) -> bool:
        """True where the kernel lacks nothing."""
        return self.landlock > 0 and self.seccomp

    def __str__(self) -> str:
        found = [f"Landlock ABI {self.landlock}"] if self.landlock else []
        found += ["seccomp"] if self.seccomp else []
        found += ["Bubblewrap"] if self.bubblewrap else []
        return " and ".join(filter(None, (", ".join(found[:-1]), *found[-1:]))) or "none"


def available_walls() -> Available:
    """Ask the kernel."""
    return Available(landlock.abi(), seccomp.is_available())


def active_walls(mode: str) -> Available:
    """The walls that engines get on this machine in this mode of the setting."""
    if mode == "off":
        return Available(0, seccomp=False)
    return replace(available_walls(), bubblewrap=bubblewrap.works())


def require(mode: str) -> Available:
    """As `active_walls`. Raises JailUnavailable where the mode is `required` and one is missing."""
    found = active_walls(mode)
    if mode == "required" and not found.is_complete:
        raise JailUnavailable(
            f"MODELPRESS_JAIL=required is set, and of Landlock and seccomp this machine offers {found}: use a newer "
            " kernel (Landlock needs Linux 5.13, and `landlock` among the security modules), a container runtime "
            "that lets landlock_create_ruleset and seccomp pass, or MODELPRESS_JAIL=auto"
        )
    return found


@dataclass(frozen=True)
class Walls:
    """What one engine may reach, as the worker tells the launcher."""

    reach: Reach = field(default_factory=Reach)
    sockets: bool = False

    @property
    def reaches_gpus(self) -> bool:
        """Whether NVIDIA's devices are open."""
        return any(path.startswith("/dev/nvidia") for path in self.reach.devices)

    def write(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Walls:
        """What `write` gave."""
        content = json.loads(text)
        reach = Reach(**{name: tuple(paths) for name, paths in content["reach"].items()})
        return cls(reach, content["sockets"])

    def close(self) -> None:
        """Shut this process and all that it starts in, as far as the machine can. Raises OSError where it fails to."""
        found = available_walls()
        capabilities.drop()
        forbid_new_privileges()
        if found.landlock:
            landlock.restrict(self.reach, tcp=self.sockets)
        if found.seccomp:
            # CUDA begins with making one (https://github.com/NVIDIA/OpenShell/issues/1696).
            seccomp.restrict(sockets=self.sockets, memory_files=self.reaches_gpus)
