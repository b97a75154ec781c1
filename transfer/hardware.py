"""The machine: the cores and the memory at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from feature_cache.process.memory import host_memory

# Whether reading is faster than computing is decided by these rates, which any disk and processor of today reaches.
BYTES_PER_SECOND = 5e8
FLOPS_PER_SECOND = {False: 1e11, True: 1e13}  # without and with an accelerator


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def multiplies_int8() -> bool | None:
    """Whether the processor has instructions that multiply and add numbers of eight bits; None where nobody says so."""
    try:
        words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
    except OSError:  # not on Linux
        return None
    return bool(words & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def gpus() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` calls the GPUs that this process may use; empty where there is none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    found = [file.name.removeprefix("nvidia") for file in Path("/dev").glob("nvidia[0-9]*")]
    return sorted(found, key=int)


def available_memory() -> int | None:
    """Bytes that could be had now on the device that nets are computed on, or None where that is not known.

    Of a GPU what its framework says, if that is loaded; else the main memory that is free or easily freed, within the
    limits of this process and of its container (control groups, version 2).
    """
    if (device := _device_memory()) is not None:
        return device
    return host_memory()


def _device_memory() -> int | None:
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    stats = jax.local_devices()[0].memory_stats() if jax else None  # None on a CPU
    return int(stats["bytes_limit"]) - int(stats["bytes_in_use"]) if stats else None
