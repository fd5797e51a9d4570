"""The layers of this library against PyTorch on the CPU: `./dev compare`, or

    MOA_TOOL=<path of moa> python3 bench/compare.py [--cases NAME,...] [--dtypes f32,bf16] [--rounds N] [--threads N]

Every measurement is a process of its own, pinned as this one is, with the same number of threads. The first round measures every
setting of every peer (peers.py; --compile adds torch.compile for more than routers), a further one those within 1.3 times of the
best of their family (one whose runs take more than 10 s, no more). Medians are over rounds, of each process's median; the spread is (max - min) / median.
A measurement during which other programs used more than 5 % of the cores is repeated (--retries, --patience), and the least
disturbed counts; what they used at most is printed as `others`. Memory is by how much a process grows: `layer` by inputs, weights
and plan, `run` at most beyond that in a run. Errors against double precision are accuracy.py's, on the same cases and dtypes.
Needs torch, the packages of requirements.txt and, for --plot, matplotlib. Exit code: 1 if a case of this library did not run, or
its error is above twice PyTorch's.
"""

import argparse
import importlib.util
import json
import os
import platform
import sys
from pathlib import Path

import accuracy
import cases
import peers
import peers_cpu
import report
from measuring import DISTURBED, Failure, contending, ratio, run_json, run_lines, summary, undisturbed, winner
from options import listed, tool

SLOW_MS = 10e3
OURS = "moa"


def measure_moa(case, dtype, options):
    command = [options.tool, "bench", "--suite", "reference", "--device", "cpu", "--case", case, "--dtype", dtype, "--json",
               "--threads", options.threads, "--min-runs", options.min_runs, "--min-time", options.min_time]
    answer = run_json(command, os.environ, options.timeout)
    result = answer["cases"][0]
    if "error" in result:
        raise Failure(result["error"])
    if "run_mb" in result:  # PyTorch makes its outputs in a run, `moa bench` before it
        outputs = result["output_bytes"] / 2 ** 20
        result |= {"run_mb": result["run_mb"] + outputs, "layer_mb": result["layer_mb"] - outputs}
    return result | {"peak_rss_mb": answer["peak_rss_mb"], "machine": answer["machine"], "versions": answer["versions"]}


def measure_peer(peer, case, dtype, options):
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, peers_cpu.__file__, case, peer, "--dtype", dtype, "--threads", options.threads,
               "--min-runs", options.min_runs, "--min-time", options.min_time]
    return run_json(command, os.environ | threads | {"CUDA_VISIBLE_DEVICES": ""}, options.timeout)


def progress(line):
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def families_of(case, dtype, options):
    """{contender: family}, this library's included."""
    found = peers.cpu_peers(case, dtype)
    return {name: peer.family for name, peer in found.items() if peer.rank < 3 or options.compile} | {OURS: OURS}


def compare_case(case, dtype, options):
    """All rounds of one case in one dtype: {contender: summary}."""
    families = families_of(case, dtype, options)
    turns, results = {name: [] for name in families}, {}
    for turn in range(options.rounds):
        for name in families if turn == 0 else contending(results, families):
            if turns[name] and turns[name][-1]["median_ms"] > SLOW_MS:
                continue
            progress(f"{case}, {dtype}, round {turn + 1} of {options.rounds}: {name}")
            try:
                turns[name].append(undisturbed(lambda: measure_moa(case, dtype, options) if name == OURS else measure_peer(name, case, dtype, options), options))
                results[name] = summary(turns[name])
            except Failure as failure:
                results[name] = {"error": str(failure)}
    progress("")
    return {name: results[name] for name in families}


def errors_of(case, options):
    """{dtype: what accuracy.py says}."""
    command = [sys.executable, accuracy.__file__, "--cases", case, "--dtypes", ",".join(options.dtypes), "--threads", options.threads, "--lines"]
    try:
        return {result["dtype"]: result for result in run_lines(command, os.environ, 2 * options.timeout)}
    except Failure as failure:
        return {options.dtypes[0]: {"error": str(failure)}}


def conclusions(case, dtype, results, options):
    """What a case comes to in a dtype: ratios above 1 favour this library, except of `ideal` and memory."""
    families = families_of(case, dtype, options)
    ours = winner(results, families, OURS)[1]
    (setting, package), (dense_setting, dense) = winner(results, families, "package"), winner(results, families, "dense")
    rate = next((r["matmul_gflops"] for r in results.values() if "matmul_gflops" in r), None)
    return {
        "case": case, "dtype": dtype, "setting": setting, "dense_setting": dense_setting,
        "package": ratio(package, ours), "dense": ratio(dense, ours),
        # The same of the shortest runs, which a busy machine disturbs least.
        "package_min": ratio(package, ours, "min_ms"), "dense_min": ratio(dense, ours, "min_ms"),
        # Time as a multiple of what the floating-point operations would take at the rate of torch.matmul.
        "ideal": ours["median_ms"] / (ours["flops"] / rate / 1e6) if ours and rate and ours.get("flops") else None,
        "run_mb": ours and ours.get("run_mb"), "package_run_mb": package and package.get("run_mb"), "dense_run_mb": dense and dense.get("run_mb"),
        "layer_mb": ours and ours.get("layer_mb"), "package_layer_mb": package and package.get("layer_mb"),
        "moa_ms": ours and ours["median_ms"], "package_ms": package and package["median_ms"], "dense_ms": dense and dense["median_ms"],
        "spreads": [r and r["spread"] for r in (ours, package, dense)],
    }


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed(cases.CPU), default=cases.CPU, metavar="NAME,...", help="default: all")
    parser.add_argument("--dtypes", type=listed(["f32", "bf16"]), default=["f32", "bf16"], metavar="NAME,...", help="default: f32,bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)),
                        help="of every contender; default: the cores that this process may use")
    parser.add_argument("--min-runs", type=int, default=5, help="least timed runs of a process")
    parser.add_argument("--min-time", type=float, default=0.5, help="least seconds of timed runs of a process")
    parser.add_argument("--retries", type=int, default=2, help="times that a disturbed measurement is repeated")
    parser.add_argument("--patience", type=float, default=10, help="seconds to wait for quiet cores before a measurement")
    parser.add_argument("--timeout", type=float, default=120, help="seconds after which a process is given up")
    parser.add_argument("--compile", action="store_true", help="peers under torch.compile too, which needs a C++ compiler and minutes")
    parser.add_argument("--no-accuracy", dest="accuracy", action="store_false", help="times and memory only")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write README's table")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the times: .svg or .png")
    options = parser.parse_args()
    if min(options.rounds, options.threads, options.min_runs) < 1:
        parser.error("--rounds, --threads and --min-runs must be at least 1")
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error(f"--plot needs matplotlib: {sys.executable} -m pip install matplotlib")
    options.tool = tool(parser)
    return options


def machine():
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.processor(), "cores": sorted(os.sched_getaffinity(0)), "load": os.getloadavg(),
            "python": platform.python_version()}


def main():
    options = parse_options()
    host = machine()
    title = f"{host['cpu']}, {len(host['cores'])} core(s), {options.threads} thread(s)"
    print(f"{title}, load average at start {host['load'][0]:.1f}\n", flush=True)
    everything, rows, errors = {}, [], {}
    for case in options.cases:
        everything[case] = {}
        for dtype in accuracy.dtypes_of(case, options.dtypes):
            results = everything[case][dtype] = compare_case(case, dtype, options)
            report.print_case(case, dtype, results)
            rows.append(conclusions(case, dtype, results, options))
        if options.accuracy:
            errors[case] = errors_of(case, options)
            report.print_errors(case, errors[case])
        if options.json:  # after every case: a run that is cut short keeps what it has
            written = {"machine": host, "threads": options.threads, "rounds": options.rounds, "ratios": rows, "cases": everything, "errors": errors}
            options.json.write_text(json.dumps(written, indent=1) + "\n")
    results = [r for of_case in everything.values() for of_dtype in of_case.values() for r in of_dtype.values()]
    worst = max((r["others"] for r in results if "others" in r), default=0)
    report.print_conclusions(rows, worst if worst > DISTURBED else 0)
    if options.markdown:
        options.markdown.write_text(report.cpu_markdown(title, rows, errors))
    if options.plot:
        shown = {case: [(label, row[f"{kind}_ms"]) for row in rows if row["case"] == case
                        for kind, label in (("package", f"package, {row['dtype']}"), ("dense", f"dense, {row['dtype']}"), ("moa", f"moa, {row['dtype']}")) if row[f"{kind}_ms"]]
                 for case in options.cases}
        report.plot(options.plot, title, shown)
    good = all(row["moa_ms"] for row in rows) and all(accuracy.holds(r) for of_case in errors.values() for r in of_case.values())
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
