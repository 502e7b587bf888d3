"""Devices, and what processes that train one net together must agree on: every other is a helper of the first."""

import logging
import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from diapir.faults import InputError

_Found = TypeVar("_Found")
# It tells the precision each time, which a run says in its summary.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def make_fabric(
    precision: Literal["auto", "float32", "bfloat16"], *, devices: int, may_leave_weights_unused: bool = False
) -> Fabric:
    """What places nets on devices; its helpers start with `launch()`.

    Args:
        precision: `auto` is bfloat16 where the machine multiplies it faster than float32.
        may_leave_weights_unused: whether a loss may leave part of the net without a gradient.

    Raises:
        InputError: the machine has fewer devices.
    """
    available = torch.cuda.device_count() or os.cpu_count() or 1
    if devices > available:
        kind = "GPUs" if torch.cuda.is_available() else "processor cores"
        raise InputError.of(f"--devices {devices}", f"expected at most {available}, for so many {kind} are here")
    if precision == "auto":
        precision = "bfloat16" if _gains_from_bfloat16() else "float32"
    strategy = DDPStrategy(find_unused_parameters=may_leave_weights_unused) if devices > 1 else "auto"
    mixed: Literal["32-true", "bf16-mixed"] = "bf16-mixed" if precision == "bfloat16" else "32-true"
    return Fabric(accelerator="auto", devices=devices, strategy=strategy, precision=mixed)


def end_helpers(fabric: Fabric) -> None:
    """End the processes that `launch()` started, for they would wait for the first one in vain."""
    for process in getattr(fabric.strategy.launcher, "procs", ()):
        process.terminate()


def mean_loss(fabric: Fabric, losses: Tensor) -> Tensor:
    """Losses of some steps, each the mean over the processes' shares of the batch."""
    if fabric.world_size == 1:
        return losses
    mean: Any = fabric.all_reduce(losses, reduce_op="mean")
    return torch.as_tensor(mean)


def agreed_stop(fabric: Fabric, asked: int | None) -> int | None:
    """The signal that asked any of the processes to stop; all must call this at the same step."""
    if fabric.world_size == 1:
        return asked
    highest: Any = fabric.all_reduce(torch.tensor(float(asked or 0), device=fabric.device), reduce_op="max")
    return int(highest) or None


def told_by_first(fabric: Fabric, work: Callable[[], _Found]) -> _Found:
    """What the first process finds, told to all: the others' statistics of batch norm differ a little."""
    if fabric.world_size == 1:
        return work()
    told: _Found = fabric.broadcast(work() if fabric.is_global_zero else None)  # type: ignore[assignment]
    return told


def _gains_from_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 faster than float32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    features = torch.backends.cpu.get_cpu_capability()
    return "AVX512" in features and bool(torch.cpu._is_avx512_bf16_supported())
