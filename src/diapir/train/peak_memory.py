"""The most memory that training has held."""

import resource
import sys

import torch

_MB = 1e6
# Kilobytes on Linux, bytes on macOS: getrusage(2) of each.
_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


def peak_memory_mb(device: torch.device) -> float:
    """Megabytes that this process has held at most so far: of the device where that has a memory of its own."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / _MB, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT_BYTES / _MB, 1)
