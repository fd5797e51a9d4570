"""Measuring in processes of their own on a CPU that other programs use too."""

import json
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path

DISTURBED = 0.05


class Failure(Exception):
    """A contender that did not run, with the reason."""


def busy_seconds(cores):
    """What these cores worked since they started, the time that a hypervisor took from them included."""
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            total += user + nice + system + irq + softirq + steal
    return total / os.sysconf("SC_CLK_TCK")


def child_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def wait_for_quiet(cores, patience):
    """Returns when other programs leave the cores alone, or after so many seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        busy = busy_seconds(cores)
        time.sleep(0.5)
        if busy_seconds(cores) - busy <= DISTURBED * 0.5 * len(cores):
            return


def undisturbed(run, options):
    """The measurement that other programs disturbed least, with their share of the cores."""
    cores = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    best = None
    for _ in range(options.retries + 1):
        wait_for_quiet(cores, options.patience)
        begin, busy, own = time.monotonic(), busy_seconds(cores), child_seconds()
        result = run()
        used = busy_seconds(cores) - busy - (child_seconds() - own)
        result["others"] = max(0.0, used / len(cores) / (time.monotonic() - begin))
        if best is None or result["others"] < best["others"]:
            best = result
        if best["others"] <= DISTURBED:
            break
    return best


def last_line(result):
    return (result.stderr.strip() or f"exit code {result.returncode}").splitlines()[-1]


def run_text(command, environment, timeout):
    try:
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"took more than {timeout:g} s") from None


def run_json(command, environment, timeout):
    result = run_text(command, environment, timeout)
    try:
        return json.loads(result.stdout)
    except ValueError:
        raise Failure(last_line(result)) from None


def run_lines(command, environment, timeout):
    """The JSON objects that a program printed, one a line."""
    result = run_text(command, environment, timeout)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    if not lines:
        raise Failure(last_line(result))
    return lines


KEPT = ("flops", "bytes", "rows", "workspace_bytes", "weight_bytes", "output_bytes", "layer_mb", "launches", "launch_ms", "torch", "machine", "versions")


def summary(rounds):
    """Of one contender: the median over rounds of each process's median."""
    medians = [r["median_ms"] for r in rounds]
    result = {"median_ms": statistics.median(medians), "min_ms": min(r["min_ms"] for r in rounds),
              "spread": (max(medians) - min(medians)) / statistics.median(medians)}
    for key in ("others", "peak_rss_mb", "run_mb"):
        values = [r[key] for r in rounds if r.get(key) is not None]
        if values:
            result[key] = max(values)
    rates = [r["matmul_gflops"] for r in rounds if r.get("matmul_gflops")]
    if rates:
        result["matmul_gflops"] = statistics.median(rates)
    return result | {key: rounds[-1][key] for key in KEPT if key in rounds[-1]} | {"rounds": rounds}


NEAR = 1.3


def contending(results, families):
    """Which contenders a further round measures: those within NEAR of the best of their family."""
    best = {}
    for name, result in results.items():
        if "median_ms" in result:
            best[families[name]] = min(best.get(families[name], float("inf")), result["median_ms"])
    return [name for name, result in results.items() if "median_ms" in result and result["median_ms"] <= NEAR * best[families[name]]]


def winner(results, families, family):
    """(name, result) of the family's fastest; (None, None) if none ran."""
    ran = [(name, result) for name, result in results.items() if "median_ms" in result and families.get(name) == family]
    return min(ran, key=lambda item: item[1]["median_ms"], default=(None, None))


def ratio(a, b, key="median_ms"):
    return a[key] / b[key] if a and b and a.get(key) is not None and b.get(key) else None
