"""Process-wide settings that make the CPU path fast; set once, before torch is imported."""

import ctypes
import os
import signal
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # glibc's malloc.h
ENVIRONMENT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
"""What `tune_process` sets for this process, and for those that it starts."""
_SPINS = "5000"  # turns of libgomp's waiting loop, some tens of microseconds


def tune_process() -> None:
    """Keep freed memory in the process, and let threads that wait sleep soon. Does nothing where it does not apply.

    A training step frees and takes the same gigabyte again and again: glibc's default hands it back to the kernel each
    time, and page faults then take up to half of the step. OpenMP threads that spin for long cost nothing on an idle
    machine, and a factor of seven as soon as any other process wants a core (measured on two cores: 25 images/s became
    3.5); threads that sleep at once let a core wait between short steps (99 images/s of 135 with tiles of 64 pixels).
    """
    assert sys.modules.get("torch") is None, "OpenMP reads its settings when torch is loaded: call this before"
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    if hasattr(os, "sched_getaffinity"):
        # Two threads on the one core that a process may use spend most of it waiting for each other.
        os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_first_process() -> bool:
    """Whether this is the process that a person started, and not a helper that trains with it on another device."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def dask_setup(_: object) -> None:
    """What a dask worker does at its start, where it is given `--preload diapir.processor`: `tune_process`.

    Ctrl-C, which a terminal sends to every process at once, is left to the first one, which has jobs save their state.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tune_process()
