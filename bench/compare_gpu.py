"""The layers and operations of this library against PyTorch on one GPU, side by side:

    MOA_TOOL=<path of moa> python3 bench/compare_gpu.py [--cases NAME,...] [--dtypes bf16,tf32,...] [--rounds N] [--device cuda:0]

A round is one process of PyTorch with every peer of every case, then one of `moa bench` for each dtype, all on the same
GPU. What is compared is the median over rounds of each process's median. Peers: the packages as published in their four
settings (the fastest counts), dense attention layers and bare attention through PyTorch's FlashAttention-2 and cuDNN back
ends (with a mask: memory-efficient attention and cuDNN), cuBLAS. Needs torch with CUDA and the packages of requirements.txt.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import peers_gpu
from compare import Failure, listed, run_json

# dtypes of this library: what `moa bench` is asked for.
DTYPES = {
    "bf16": ["--dtype", "bf16"],
    "f16": ["--dtype", "f16"],
    "tf32": ["--dtype", "f32", "--precision", "tf32"],
    "f32": ["--dtype", "f32"],
}


def measure_moa(dtype, cases, options):
    command = [options.tool, "bench", "--suite", "reference", "--device", options.device, "--json", *DTYPES[dtype],
               "--min-runs", options.min_runs, "--min-time", options.min_time]
    for case in cases:
        command += ["--case", case]
    return {result["case"]: result for result in run_json([str(c) for c in command], os.environ, options)["cases"]}


def routers_of(cases):
    return [case for case in cases if case in peers_gpu.ROUTERS]


def measure_round(options):
    """{case: {contender: result}} of one round, and what the peers' process says of itself."""
    command = [sys.executable, peers_gpu.__file__, *options.cases, "--min-runs", str(options.min_runs), "--min-time", str(options.min_time)]
    answer = run_json(command, os.environ, options)
    results = {case: dict(answer["cases"][case]) for case in options.cases}
    for dtype in options.dtypes:
        cases = [case for case in options.cases if dtype == "f32" or case not in peers_gpu.ROUTERS]
        for case, result in (measure_moa(dtype, cases, options) if cases else {}).items():
            results[case][f"moa, {dtype}"] = result
    if "f32" not in options.dtypes and routers_of(options.cases):  # scores are f32 always
        for case, result in measure_moa("f32", routers_of(options.cases), options).items():
            results[case]["moa, f32"] = result
    return results, {key: value for key, value in answer.items() if key != "cases"}


def summary(rounds):
    failed = next((r for r in rounds if "error" in r), None)
    if failed:
        return {"error": failed["error"]}
    medians = [r["median_ms"] for r in rounds]
    result = {"median_ms": statistics.median(medians), "min_ms": min(r["min_ms"] for r in rounds),
              "spread": (max(medians) - min(medians)) / statistics.median(medians)}
    return result | {key: rounds[-1][key] for key in ("flops", "bytes", "launches", "launch_ms", "rows") if key in rounds[-1]}


def best(results, prefix):
    return min((r["median_ms"] for name, r in results.items() if name.startswith(prefix) and "median_ms" in r), default=None)


def print_case(case, results):
    flops = next((r["flops"] for r in results.values() if r.get("flops")), None)
    print(case + (f": {flops / 1e9:.4g} GFLOP" if flops else ""))
    for name, r in results.items():
        if "error" in r:
            print(f"  {name:<32} did not run: {r['error'][:110]}")
            continue
        rate = f"{flops / r['median_ms'] / 1e9:8.1f} TFLOP/s" if flops and (name.startswith("moa") or case not in peers_gpu.MIXTURES) else ""
        launches = f"  {r['launches']} launches, {r['launch_ms']:.4f} ms of the host" if "launches" in r else ""
        print(f"  {name:<32} {r['median_ms']:10.4f} ms  min {r['min_ms']:10.4f}  spread {100 * r['spread']:5.1f} %  {rate}{launches}")
    sys.stdout.flush()


def print_ratios(all_results):
    print("\nTimes of peers over this library's; above 1, this library is faster:\n")
    print(f"{'case':<26} {'':<10} {'package':>10} {'flash':>10} {'cuDNN':>10} {'cuBLAS':>10}")
    for case, results in all_results.items():
        for name, ours in results.items():
            if not name.startswith("moa") or "median_ms" not in ours:
                continue
            dtype = name.split(", ")[1]
            flash, cudnn = (best(results, f"{kind}, {backend}") and best(results, f"{kind}, {backend}") / ours["median_ms"]
                            for kind, backend in (("dense bf16" if case in peers_gpu.MIXTURES else "SDPA bf16", b) for b in ("flash", "cudnn")))
            package, cublas = best(results, "package"), best(results, "cuBLAS, tf32" if dtype in ("tf32", "f32") else "cuBLAS, bf16")
            columns = [package and package / ours["median_ms"], flash, cudnn, cublas and cublas / ours["median_ms"]]
            print(f"{case:<26} {dtype:<10} " + " ".join("         -" if c is None else f"{c:8.2f} x" for c in columns))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed(peers_gpu.CASES), default=peers_gpu.CASES, metavar="NAME,...", help="default: all")
    parser.add_argument("--dtypes", type=listed(DTYPES), default=["bf16", "tf32"], metavar="NAME,...", help="of this library; default: bf16,tf32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--min-runs", type=int, default=5, help="least timed batches of a contender")
    parser.add_argument("--min-time", type=float, default=0.1, help="least seconds of timed batches of a contender")
    parser.add_argument("--timeout", type=float, default=600, help="seconds after which a process is given up")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured")
    options = parser.parse_args()
    if min(options.rounds, options.min_runs) < 1:
        parser.error("--rounds and --min-runs must be at least 1")
    options.tool = os.environ.get("MOA_TOOL", "")
    if not os.access(options.tool, os.X_OK):
        parser.error(f"MOA_TOOL is {options.tool!r}, must name the program moa")
    return options


def main():
    options = parse_options()
    rounds, peer_machine = [], {}
    for turn in range(options.rounds):
        print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
        results, peer_machine = measure_round(options)
        rounds.append(results)
    print(f"{peer_machine['gpu']}, torch {peer_machine['torch']}, copies {peer_machine['copy_gbps']:.0f} GB/s, {options.rounds} round(s)\n")
    all_results = {case: {name: summary([r[case][name] for r in rounds if name in r[case]]) for name in rounds[0][case]} for case in options.cases}
    for case, results in all_results.items():
        print_case(case, results)
    print_ratios(all_results)
    if options.json:
        options.json.write_text(json.dumps({"machine": peer_machine, "rounds": options.rounds, "cases": all_results}, indent=1) + "\n")
    return 0 if all("error" not in r for results in all_results.values() for name, r in results.items() if name.startswith("moa")) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"compare_gpu: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
