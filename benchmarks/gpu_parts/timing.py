"""Time and profile a function whose work a GPU, or in a rehearsal a CPU, does."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.profiler_util import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity

SLOWEST = 4
"""Kernels that a profile names."""


def median_time(run: Callable[[], Any], device: torch.device, repeats: int = 7) -> float:
    """Return the median seconds of a call, after three warm-up calls."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        if device.type == "cpu":
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
            continue
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def profile_kernels(run: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """Profile one call, after one warm-up call.

    Returns the number of kernels (on a CPU: operations), the milliseconds that they took, the
    milliseconds of the call, and the slowest kernels with their shares of the time.
    """
    is_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU
    kind = DeviceType.CUDA if is_gpu else DeviceType.CPU
    run()
    synchronize(device)
    with torch.profiler.profile(activities=[activity]) as profiler:
        begin = time.perf_counter()
        run()
        synchronize(device)
        seconds = time.perf_counter() - begin
    times: dict[str, float] = {}
    launches = 0
    for event in profiler.key_averages():
        if event.device_type == kind:
            launches += event.count
            microseconds = event.self_device_time_total if is_gpu else event.self_cpu_time_total
            times[event.key] = times.get(event.key, 0.0) + microseconds
    total = max(sum(times.values()), 1e-9)
    slowest = sorted(times, key=lambda name: -times[name])[:SLOWEST]
    return {
        "kernels": launches,
        "ms in kernels": total / 1e3,
        "ms": seconds * 1e3,
        "slowest": {name[:80]: f"{times[name] / total:.0%}" for name in slowest},
    }


def capture(run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return a function that replays a call as a CUDA graph; on a CPU, the call itself."""
    if device.type == "cpu":
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm-up must not be on the stream of the graph
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def synchronize(device: torch.device) -> None:
    """Wait for all work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
