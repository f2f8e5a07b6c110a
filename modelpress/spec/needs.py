"""What a job needs of the worker that carries it out, and what a worker has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from modelpress.spec.config import Config, Resource

Device = Literal["cpu", "cuda"]

MOST_BYTES = 10**15
_GIB = 1 << 30


class Needs(Config):
    """What a job needs; a worker that lacks some of it leaves the job to others."""

    device: Literal["any", "cpu", "cuda"] = Field(
        default="any",
        description="What it must be computed on: `cuda` for a worker with a GPU, `cpu` for one that computes on the "
        "processor, `any` for whichever comes first.",
    )
    cores: int = Field(default=1, ge=1, le=4096, description="Processor cores, at least.")
    memory_bytes: int = Field(
        default=0, ge=0, le=MOST_BYTES, description="Main memory that the worker grants a job, bytes, at least."
    )
    gpu_memory_bytes: int = Field(
        default=0, ge=0, le=MOST_BYTES, description="Memory of one GPU, bytes, at least; only with `device: cuda`."
    )

    @model_validator(mode="after")
    def _gpu_memory_of_a_gpu(self) -> Needs:
        if self.gpu_memory_bytes and self.device != "cuda":
            raise ValueError("`gpu_memory_bytes` is memory of a GPU: ask for `device: cuda` with it")
        return self


class Least(Resource):
    """Least memory of a worker that a job fits, by its estimate; 0 where that is unknown or its owner named a need."""

    cpu_memory_bytes: int = Field(default=0, description="Main memory, where it is computed on the processor, bytes.")
    cuda_memory_bytes: int = Field(default=0, description="Main memory, where it is computed on GPUs, bytes.")
    gpu_memory_bytes: int = Field(default=0, description="Memory of all its GPUs together, bytes.")


NOTHING = Least()


class Capacity(Resource):
    """What a worker has for one job."""

    device: Device = Field(description="What its jobs compute on.")
    cores: int = Field(description="Processor cores.")
    memory_bytes: int = Field(description="Main memory, bytes.")
    gpu_memory_bytes: int = Field(default=0, description="Memory of its smallest GPU, bytes; 0 without a GPU.")
    gpus: int = Field(default=1, description="GPUs that share its trainings; 1 without a GPU.")

    @property
    def all_gpu_memory_bytes(self) -> int:
        """Memory of all its GPUs together."""
        return self.gpu_memory_bytes * self.gpus

    def lacks(self, needs: Needs, least: Least = NOTHING) -> dict[str, str]:
        """What it lacks for a job with these needs, by the field of `needs` that says so; empty where it fits.

        `least` is what an estimate says of such a job.
        """
        is_cuda = self.device == "cuda"
        memory = max(needs.memory_bytes, least.cuda_memory_bytes if is_cuda else least.cpu_memory_bytes)
        found = {}
        if needs.device not in ("any", self.device):
            found["device"] = f"the device {needs.device}"
        if needs.cores > self.cores:
            found["cores"] = f"{needs.cores} processor cores"
        if memory > self.memory_bytes:
            found["memory_bytes"] = f"{gib(memory)} of memory"
        if needs.gpu_memory_bytes > self.gpu_memory_bytes:
            found["gpu_memory_bytes"] = f"{gib(needs.gpu_memory_bytes)} of GPU memory"
        elif is_cuda and least.gpu_memory_bytes > self.all_gpu_memory_bytes:
            found["gpu_memory_bytes"] = f"{gib(least.gpu_memory_bytes)} of GPU memory"
        return found

    def in_words(self) -> str:
        """`cuda with 80.0 GiB, 16 cores, 128.0 GiB of memory`."""
        device: str = self.device
        if self.gpu_memory_bytes:
            times = f"{self.gpus} x " if self.gpus > 1 else ""
            device = f"{self.device} with {times}{gib(self.gpu_memory_bytes)}"
        return f"{device}, {self.cores} cores, {gib(self.memory_bytes)} of memory"


def gib(count: int) -> str:
    """`12.3 GiB`; of less than one, `512 MiB`, at least one."""
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{max(1, count >> 20)} MiB"
