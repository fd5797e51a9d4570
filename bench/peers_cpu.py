"""One PyTorch measurement on the CPU in a process of its own: `python peers_cpu.py CASE PEER ...` prints one JSON object.

Memory is what the process grows by: when the layer is made, and at most during the first run beyond that. What it held
before, after its imports, is no part of either.
"""

import argparse
import ctypes
import json
import os
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

import cases
import peers

MATMUL = 2048
MAX_SECONDS = 20.0


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def status_mb(name):
    """A line of /proc/self/status, after what was freed went back to the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def resident_mb():
    ctypes.CDLL(None).malloc_trim(0)
    return status_mb("VmRSS")


def growth_of_run(run):
    """The most that resident memory grows by in a run; None where the kernel does not let a process reset its peak."""
    before = resident_mb()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes VmRSS: man 5 proc
    except OSError:
        before = None
    run()
    return None if before is None else status_mb("VmHWM") - before


def measure(run, min_runs, min_seconds):
    """As `moa bench` does: one run to warm up, then at least so many runs and seconds; slow ones stop at MAX_SECONDS."""
    run()
    times = []
    while (len(times) < min_runs or sum(times) < min_seconds) and sum(times) < MAX_SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return {"median_ms": statistics.median(times) * 1e3, "min_ms": min(times) * 1e3, "runs": len(times)}


def matmul_gflops(torch, dtype):
    """The rate of torch.matmul; None where it would take seconds, as bf16 does on CPUs without instructions for it."""
    for size in (MATMUL // 4, MATMUL):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        times = measure(lambda: torch.matmul(a, b), 5, 0.3)
        if times["min_ms"] > 500:
            return None
    return 2 * MATMUL ** 3 / times["median_ms"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=cases.CPU)
    parser.add_argument("peer")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    answer, sys.stdout = sys.stdout, sys.stderr  # packages print what they find

    import torch

    found = peers.cpu_peers(options.case, options.dtype)
    if options.peer not in found:
        parser.error(f"peer is {options.peer!r}, must be one of: {'; '.join(found)}")
    for name in ("mixture_of_attention", "colt5_attention.triton_coor_descent", "local_attention"):  # memory of imports is no layer's
        __import__(name)
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    peer = found[options.peer]
    imported = resident_mb()
    result = {"torch": torch.__version__, "threads": torch.get_num_threads(), "imported_rss_mb": imported}
    with torch.inference_mode():
        run = peer.prepare()
        if peer.mode == "compiled":
            run = torch.compile(run)
            run()  # what the compiler takes is no part of a run
        result["layer_mb"] = resident_mb() - imported
        result["run_mb"] = growth_of_run(run)
        result |= measure(run, options.min_runs, options.min_time)
        result["peak_rss_mb"] = peak_rss_mb()
        if options.peer == "dense SDPA":  # the yardstick, in the same process and moment
            result["matmul_gflops"] = matmul_gflops(torch, {"f32": torch.float32, "bf16": torch.bfloat16}[options.dtype])
    json.dump(result, answer)


if __name__ == "__main__":
    main()
