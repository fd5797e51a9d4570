"""The layers of this library against PyTorch on the same machine: `./dev compare`, or

    MOA_TOOL=<path of moa> python3 bench/compare.py [--cases NAME,...] [--dtypes f32,bf16] [--rounds N] [--threads N]

Every measurement is a process of its own, pinned as this one is, with the same number of threads; in each round, every
contender of a case has a turn (one whose runs take more than 10 s, in the first round only). Medians are over rounds, of
each process's median; the spread is (max - min) / median. A measurement during which other programs used more than 5 % of
the cores is repeated (--retries, --patience), and the least disturbed counts; what they used at most is printed as `others`.
Needs torch, the three packages of requirements.txt and, for --plot, matplotlib.
"""

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import peers

# Contenders: how tables name them.
NAMES = {
    "plain": "package, einsum",
    "flash": "package, flash_attn",
    "dense": "PyTorch dense SDPA",
    "moa": "moa",
}


class Failure(Exception):
    """A contender that did not run, with the reason."""


SLOW_MS = 10e3


DISTURBED = 0.05


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


def run_json(command, environment, options):
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"took more than {options.timeout:g} s") from None
    try:
        return json.loads(result.stdout)
    except ValueError:
        lines = (result.stderr.strip() or f"exit code {result.returncode}").splitlines()
        raise Failure(lines[-1]) from None


def measure_moa(case, dtype, options):
    command = [options.tool, "bench", "--suite", "reference", "--device", "cpu", "--case", case, "--dtype", dtype, "--json",
               "--threads", str(options.threads), "--min-runs", str(options.min_runs), "--min-time", str(options.min_time)]
    answer = run_json(command, os.environ, options)
    result = answer["cases"][0]
    if "error" in result:
        raise Failure(result["error"])
    return result | {"peak_rss_mb": answer["peak_rss_mb"], "machine": answer["machine"], "versions": answer["versions"]}


def measure_peer(peer, case, dtype, options):
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, peers.__file__, peer, case, "--dtype", dtype, "--threads", str(options.threads),
               "--min-runs", str(options.min_runs), "--min-time", str(options.min_time)]
    return run_json(command, os.environ | threads | {"CUDA_VISIBLE_DEVICES": ""}, options)


def progress(line):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def measure(kind, case, dtype, options):
    return measure_moa(case, dtype, options) if kind == "moa" else measure_peer(kind, case, dtype, options)


def contenders(case, dtypes):
    router = case in peers.ROUTERS
    kinds = ["plain", "moa"] if router else ["plain", "flash", "dense", "moa"]
    return [(kind, dtype) for kind in kinds for dtype in dtypes if not (router and dtype != "f32")]


def compare_case(case, options):
    """All rounds of one case: {"kind dtype": summary}."""
    turns = {contender: [] for contender in contenders(case, options.dtypes)}
    errors = {}
    for turn in range(options.rounds):
        for (kind, dtype), earlier in turns.items():
            if (kind, dtype) in errors or (earlier and earlier[-1]["median_ms"] > SLOW_MS):
                continue
            progress(f"{case}, round {turn + 1} of {options.rounds}: {NAMES[kind]}, {dtype}")
            try:
                earlier.append(undisturbed(lambda: measure(kind, case, dtype, options), options))
            except Failure as failure:
                errors[kind, dtype] = str(failure)
    progress("")
    return {f"{kind} {dtype}": {"error": errors[kind, dtype]} if (kind, dtype) in errors else summary(rounds)
            for (kind, dtype), rounds in turns.items()}


def summary(rounds):
    medians = [r["median_ms"] for r in rounds]
    result = {"median_ms": statistics.median(medians), "spread": (max(medians) - min(medians)) / statistics.median(medians),
              "min_ms": min(r["min_ms"] for r in rounds), "peak_rss_mb": max(r["peak_rss_mb"] for r in rounds),
              "others": max(r["others"] for r in rounds)}
    rates = [r["matmul_gflops"] for r in rounds if r.get("matmul_gflops")]
    if rates:
        result["matmul_gflops"] = statistics.median(rates)
    for key in ("flops", "bytes", "rows", "workspace_bytes", "torch", "imported_rss_mb", "machine", "versions"):
        if key in rounds[-1]:
            result[key] = rounds[-1][key]
    return result | {"rounds": rounds}


def ran(results, kind, dtype):
    result = results.get(f"{kind} {dtype}", {})
    return result if "median_ms" in result else None


def best_package(results, dtype):
    """(kind, result) of the package's better setting."""
    found = [(kind, ran(results, kind, dtype)) for kind in ("plain", "flash")]
    return min((f for f in found if f[1]), key=lambda f: f[1]["median_ms"], default=(None, None))


def ratio(a, b, key="median_ms"):
    return a[key] / b[key] if a and b else None


def conclusions(case, results, options):
    """What a case comes to: figures above 1 favour this library, except `ideal`, `bf16` and `rss`."""
    first = options.dtypes[0]
    ours, bf16, dense = ran(results, "moa", first), ran(results, "moa", "bf16"), ran(results, "dense", first)
    setting, package = best_package(results, first)
    rate = dense and dense.get("matmul_gflops")
    return {
        "case": case, "dtype": first, "setting": setting,
        "package": ratio(package, ours), "dense": ratio(dense, ours),
        # The same of the shortest runs, which a busy machine disturbs least.
        "package_min": ratio(package, ours, "min_ms"), "dense_min": ratio(dense, ours, "min_ms"),
        # Time as a multiple of what the floating-point operations would take at the rate of torch.matmul.
        "ideal": ours["median_ms"] / (ours["flops"] / rate / 1e6) if ours and rate else None,
        "bf16": ratio(bf16, ours) if first == "f32" else None,
        "rss": ratio(ours, package, "peak_rss_mb"),
    }


# --- printing ---------------------------------------------------------------------------------------------------------

def text(value, pattern="{:.2f} x"):
    return "-" if value is None else pattern.format(value)


def print_case(case, results):
    known = next((r["flops"] for r in results.values() if "flops" in r), None)
    print(f"{case}" + (f": {known / 1e9:.3g} GFLOP" if known else ""))
    for name, r in results.items():
        kind, dtype = name.split()
        title = f"  {NAMES[kind] if case not in peers.ROUTERS or kind == 'moa' else 'package, coor_descent + topk'}, {dtype}"
        if "error" in r:
            print(f"{title:<36} did not run: {r['error'][:100]}")
            continue
        rate = f"{known / r['median_ms'] / 1e6:8.1f} GFLOP/s" if known and kind == "moa" else " " * 16
        more = f", torch.matmul {r['matmul_gflops']:.0f} GFLOP/s" if "matmul_gflops" in r else ""
        base = f" ({r['imported_rss_mb']:.0f} of it import torch)" if "imported_rss_mb" in r else ""
        print(f"{title:<36} {r['median_ms']:10.3f} ms  min {r['min_ms']:10.3f}  spread {100 * r['spread']:5.1f} %  others {100 * r['others']:3.0f} % "
              f"{rate}  peak RSS {r['peak_rss_mb']:5.0f} MB{base}{more}")
    sys.stdout.flush()


def print_conclusions(rows, disturbed, options):
    first = options.dtypes[0]
    print(f"\nTimes as ratios, {first}, {options.threads} thread(s), {options.rounds} round(s):\n")
    print(f"{'case':<22} {'package/moa':>12} {'by minima':>10} {'best setting':>20} {'dense/moa':>10} {'by minima':>10} {'moa/matmul':>11} "
          f"{'bf16/f32':>9} {'RSS moa/package':>16}")
    for row in rows:
        setting = "-" if row["case"] in peers.ROUTERS or row["setting"] is None else NAMES[row["setting"]]
        print(f"{row['case']:<22} {text(row['package']):>12} {text(row['package_min']):>10} {setting:>20} "
              f"{text(row['dense']):>10} {text(row['dense_min']):>10} {text(row['ideal']):>11} {text(row['bf16']):>9} {text(row['rss'], '{:.2f}'):>16}")
    print("\npackage/moa, dense/moa: above 1, this library is faster. moa/matmul: its time over that of its floating-point operations at\n"
          "the rate of torch.matmul of 2048 x 2048 in the same rounds. Dense: every token attends to every token.")
    if disturbed:
        print(f"\nOther programs used up to {100 * disturbed:.0f} % of the cores during a measurement: do not quote these figures.")


def plot(path, all_results, options):
    """Bars of every case's contenders; a colour a contender, light for the second dtype."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = {"plain": "#8c8c8c", "flash": "#4c72b0", "dense": "#55a868", "moa": "#dd8452"}
    names = [f"{kind} {dtype}" for kind in NAMES for dtype in options.dtypes]
    bars = {case: [name for name in names if "median_ms" in results.get(name, {})] for case, results in all_results.items()}
    total = sum(map(len, bars.values()))
    figure, axes = pyplot.subplots(figsize=(max(9, 1 + 0.34 * (total + 2 * len(bars))), 5), layout="constrained")
    begin, middles, labelled = 0, [], set()
    for case, shown in bars.items():
        for place, name in enumerate(shown, begin):
            kind, dtype = name.split()
            bar = axes.bar(place, all_results[case][name]["median_ms"], 0.92, color=colours[kind],
                           alpha=1 if dtype == options.dtypes[0] else 0.55, label=None if name in labelled else f"{NAMES[kind]}, {dtype}")
            axes.bar_label(bar, fmt="%.3g", fontsize=7, padding=2)
            labelled.add(name)
        middles.append(begin + (len(shown) - 1) / 2)
        begin += max(len(shown), 3) + 2  # room for the names below
    axes.set_yscale("log")
    axes.margins(x=0.02, y=0.1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylabel("median in ms (lower is better)")
    axes.set_xticks(middles, bars)
    axes.tick_params(axis="x", length=0, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{machine()['cpu']}, {options.threads} thread(s)", fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


# --- the run ----------------------------------------------------------------------------------------------------------

def listed(known):
    def parse(value):
        names = [name for name in value.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}; known: {', '.join(known)}")
        return names
    return parse


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed(peers.CASES), default=peers.CASES, metavar="NAME,...", help="default: all")
    parser.add_argument("--dtypes", type=listed(["f32", "bf16"]), default=["f32", "bf16"], metavar="NAME,...",
                        help="ratios are of the first; default: f32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of every contender; default: the cores that this process may use")
    parser.add_argument("--min-runs", type=int, default=5, help="least timed runs of a process")
    parser.add_argument("--min-time", type=float, default=0.5, help="least seconds of timed runs of a process")
    parser.add_argument("--retries", type=int, default=2, help="times that a disturbed measurement is repeated")
    parser.add_argument("--patience", type=float, default=10, help="seconds to wait for quiet cores before a measurement")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which a process is given up")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the times")
    options = parser.parse_args()
    if min(options.rounds, options.threads, options.min_runs) < 1:
        parser.error("--rounds, --threads and --min-runs must be at least 1")
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error(f"--plot needs matplotlib: {sys.executable} -m pip install matplotlib")
    options.tool = os.environ.get("MOA_TOOL", "")
    if not os.access(options.tool, os.X_OK):
        parser.error(f"MOA_TOOL is {options.tool!r}, must name the program moa (./dev compare sets it)")
    return options


def machine():
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "cores": sorted(os.sched_getaffinity(0)), "load": os.getloadavg(),
            "python": platform.python_version()}


def main():
    options = parse_options()
    host = machine()
    print(f"{host['cpu']}, {len(host['cores'])} core(s), {options.threads} thread(s), load average at start {host['load'][0]:.1f}\n", flush=True)
    all_results = {}
    for case in options.cases:
        all_results[case] = compare_case(case, options)
        print_case(case, all_results[case])
        if options.json:  # after every case: a run that is cut short keeps what it has
            rows = [conclusions(c, r, options) for c, r in all_results.items()]
            written = {"machine": host, "threads": options.threads, "rounds": options.rounds, "ratios": rows, "cases": all_results}
            options.json.write_text(json.dumps(written, indent=1) + "\n")
    rows = [conclusions(case, results, options) for case, results in all_results.items()]
    worst = max((r["others"] for results in all_results.values() for r in results.values() if "others" in r), default=0)
    print_conclusions(rows, worst if worst > DISTURBED else 0, options)
    if options.plot:
        plot(options.plot, all_results, options)
    return 0 if all(ran(all_results[row["case"]], "moa", options.dtypes[0]) for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
