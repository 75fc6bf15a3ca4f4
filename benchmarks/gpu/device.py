"""The machine: what it is, its clock, and the most it can do.

The peak in bf16 is the data sheet's (dense, without sparsity) where the name is known, since MFU is quoted against that; otherwise
the best rate of a large product measured here. Bandwidth is always measured: what a sum of two long arrays reads and writes.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

DATA_SHEETS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense bf16 operations a second of NVIDIA's data sheets; the first name that is part of the device's own."""


@dataclass(frozen=True)
class Machine:
    """`peak` in operations a second, from `source`; `bandwidth` in bytes a second."""

    device: torch.device
    name: str
    peak: float
    source: str
    bandwidth: float


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def data_sheet(name: str) -> float | None:
    return next((peak for part, peak in DATA_SHEETS.items() if part in name), None)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Of one call, to the end of all it started on the device."""
    finish(device)
    began = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - began


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give back what the last lane held: a policy's hooks point at it, so only the collector finds it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def median_seconds(device: torch.device, work: Callable[[], object], times: int = 10) -> float:
    work()
    return statistics.median(seconds(device, work) for _ in range(times))


@torch.no_grad()
def measured(device: torch.device) -> Machine:
    """Small on a CPU, where this is only tried out."""
    gpu = device.type == "cuda"
    name, size = name_of(device), 8192 if gpu else 256
    peak, source = data_sheet(name), "data sheet"
    if peak is None:
        x, y = (torch.randn(size, size, device=device, dtype=torch.bfloat16 if gpu else torch.float32) for _ in range(2))
        peak, source = 2 * size**3 / median_seconds(device, lambda: x @ y), "measured product"
    a, b, c = (torch.zeros((2**30 if gpu else 2**20) // 4, device=device) for _ in range(3))
    spent = median_seconds(device, lambda: torch.add(b, c, out=a))
    return Machine(device, name, peak, source, 3 * a.numel() * 4 / spent)
