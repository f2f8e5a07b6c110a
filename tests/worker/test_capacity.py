"""What a worker says that it has."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from modelpress.spec.needs import Capacity
from service.settings import Settings
from worker import capacity
from worker.capacity import find_capacity

MEMORY = 1 << 32


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Has NVIDIA's driver; the function says what the probe does."""

    def with_probe(script):
        monkeypatch.setattr(capacity, "DRIVER", tmp_path)
        monkeypatch.setattr(capacity, "PROBE", (sys.executable, "-c", script))

    return with_probe


def _settings(tmp_path, **more):
    return Settings(home=tmp_path, memory_limit_bytes=MEMORY, **more)


def test_without_a_gpu_it_is_the_processor_and_what_the_settings_grant(monkeypatch, tmp_path):
    monkeypatch.setattr(capacity, "DRIVER", Path(tmp_path / "none"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    monkeypatch.setattr("modelpress.spec.cores.CPU_LIMIT", tmp_path / "none")
    cores = 3
    assert find_capacity(_settings(tmp_path)) == Capacity(device="cpu", cores=cores, memory_bytes=MEMORY)
    assert find_capacity(_settings(tmp_path, threads=1)).cores == 1
    assert find_capacity(_settings(tmp_path, threads=cores + 1)).cores == cores


def test_of_several_gpus_the_smallest_counts(machine, tmp_path):
    machine("print([3_000, 2_000])")
    found = find_capacity(_settings(tmp_path))
    assert (found.device, found.gpu_memory_bytes) == ("cuda", 2_000)


def test_a_worker_that_is_told_to_use_the_processor_has_no_gpu(machine, tmp_path):
    machine("print([3_000])")
    found = find_capacity(_settings(tmp_path, device="cpu"))
    assert (found.device, found.gpu_memory_bytes) == ("cpu", 0)


def test_it_sees_the_gpus_that_its_jobs_see(machine, tmp_path):
    machine("import os; print([int(index) + 1 for index in os.environ['CUDA_VISIBLE_DEVICES'].split(',')])")
    assert find_capacity(_settings(tmp_path, cuda_visible_devices="4,6")).gpu_memory_bytes == 5


@pytest.mark.parametrize("script", ["raise SystemExit(1)", "print('CUDA is broken')", "print([])"])
def test_gpus_that_do_not_answer_are_none(machine, tmp_path, script):
    machine(script)
    found = find_capacity(_settings(tmp_path))
    assert (found.device, found.gpu_memory_bytes) == ("cpu", 0)
    assert find_capacity(_settings(tmp_path, device="cuda")).device == "cuda"


def test_torch_answers(monkeypatch):
    """With the memory of each GPU, those of another size too; nothing where there is none."""
    from modelpress.engine.gpus import gpu_memory_bytes

    assert len(gpu_memory_bytes()) == torch.cuda.device_count()
    properties = [SimpleNamespace(total_memory=size << 30) for size in (24, 80)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    assert gpu_memory_bytes() == [24 << 30, 80 << 30]
