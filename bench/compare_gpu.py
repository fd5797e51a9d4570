"""The layers and operations of this library against PyTorch on one GPU, side by side:

    MOA_TOOL=<path of moa> python3 bench/compare_gpu.py [--cases NAME,...] [--dtypes bf16,tf32,...] [--rounds N] [--device cuda:0]

The first round measures every setting of every peer (peers.py; --compile adds torch.compile for more than routers), a further one
those within 1.3 times of the best of their family; each ends with `moa bench` in each dtype. The median over rounds of each
round's median counts. Ours are replays of a CUDA graph; so are peers whose name ends with `graph`, the others are called one by
one. Peers run in a process beside this one, which is replaced when a peer hangs (--peer-timeout) or spoils it. Errors against
double precision are accuracy.py's, on the same cases, in every dtype.
--budget ends the whole run in so many seconds: rank 0 of the peers, further rounds and errors come first, what is least
interesting is left out first. Results are printed as they come, tables at the end.
Needs torch with CUDA and the packages of requirements.txt. Exit code: 1 if a case of this library did not run, or its error is
above twice PyTorch's.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import accuracy
import cases
import peers
import report_gpu
from measuring import Failure, contending, run_json, summary
from options import DTYPES, listed, tool
from peer_process import PeerProcess

ACCURACY_SHARE = 0.25  # of a budget


class Comparison:
    def __init__(self, options, process=None):
        self.options = options
        self.process = process or PeerProcess(options)
        self.rounds = {case: {} for case in options.cases}  # {case: {contender: [result of a round]}}
        self.errors = {}
        self.skipped, self.turns = [], 0
        self.begin = time.monotonic()
        found = {case: peers.gpu_peers(case) for case in options.cases}
        self.peers = {case: {name: peer for name, peer in of_case.items() if peer.rank < 3 or options.compile} for case, of_case in found.items()}
        self.families = {case: {name: peer.family for name, peer in of_case.items()} for case, of_case in self.peers.items()}

    def elapsed(self):
        return time.monotonic() - self.begin

    def deadline(self, reserve=0.0):
        return None if self.options.budget is None else self.begin + self.options.budget - reserve

    def add(self, case, name, result, turn):
        self.rounds[case].setdefault(name, []).append(result)
        said = f"did not run: {result['error'][:110]}" if "error" in result else f"{result['median_ms']:.4f} ms"
        print(f"[{self.elapsed():5.0f} s, round {turn + 1}] {case:<28} {name:<44} {said}", flush=True)

    def measure_peers(self, wanted, turn, deadline):
        """A package that a graph cannot hold fails in one case only, and costs a process there."""
        wanted, broken = list(wanted), {}
        graphs = [item for item in wanted if item[1].startswith("package") and item[1].endswith("graph")]
        for case, name, result in self.process.results([item for item in wanted if item not in graphs], deadline):
            self.add(case, name, result, turn)
        for item in graphs:
            if item[1] in broken:
                self.add(*item, {"error": f"as in {broken[item[1]]}"}, turn)
                continue
            for case, name, result in self.process.results([item], deadline):
                self.add(case, name, result, turn)
                if "error" in result:
                    broken[name] = case
        self.skipped += [item for item in wanted if turn == 0 and item[1] not in self.rounds[item[0]]]

    def measure_moa(self, turn):
        for dtype in self.options.dtypes:
            self.measure_dtype(dtype, [case for case in self.options.cases if dtype == "f32" or case not in cases.ROUTERS], turn)
        if "f32" not in self.options.dtypes:  # scores are f32 always
            self.measure_dtype("f32", [case for case in self.options.cases if case in cases.ROUTERS], turn)

    def measure_dtype(self, dtype, chosen, turn):
        o = self.options
        command = [o.tool, "bench", "--suite", "reference", "--device", o.device, "--json", *DTYPES[dtype], "--min-runs", o.min_runs, "--min-time", o.min_time]
        for case in chosen:
            command += ["--case", case]
        try:
            for result in run_json(command, os.environ, o.timeout)["cases"] if chosen else ():
                self.add(result["case"], f"moa, {dtype}", result, turn)
        except Failure as failure:
            for case in chosen:
                self.add(case, f"moa, {dtype}", {"error": str(failure)}, turn)

    def of_rank(self, ranks):
        """Wanted peers, the lowest rank first."""
        return [(case, name) for rank in ranks for case, found in self.peers.items() for name, peer in found.items() if peer.rank == rank]

    def measure_times(self):
        errors = ACCURACY_SHARE * (self.options.budget or 0) if self.options.accuracy else 0
        self.measure_peers(self.of_rank([0]), 0, self.deadline(errors))
        before = self.elapsed()
        self.measure_moa(0)
        moa, self.turns = self.elapsed() - before, 1
        # What the later rounds and the errors will take comes before the other peers.
        self.measure_peers(self.of_rank([1, 2, 3]), 0, self.deadline(1.2 * self.elapsed() * (self.options.rounds - 1) + errors))
        for turn in range(1, self.options.rounds):
            near = [(case, name) for case, results in self.summaries().items()
                    for name in contending({n: r for n, r in results.items() if n in self.families[case]}, self.families[case])]
            deadline = self.deadline(1.1 * moa + errors)
            if deadline is not None and time.monotonic() > deadline:
                return
            self.measure_peers(near, turn, deadline)
            self.measure_moa(turn)
            self.turns += 1

    def measure_errors(self):
        """Line by line, until the budget ends."""
        o = self.options
        command = [sys.executable, accuracy.__file__, "--cases", ",".join(o.cases), "--device", o.device, "--lines"]
        errors = None if o.verbose else subprocess.DEVNULL
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            deadline = self.deadline()
            timer = threading.Timer(float("inf") if deadline is None else max(0.0, deadline - time.monotonic()), process.kill)
            if deadline is not None:
                timer.start()
            for line in process.stdout:
                result = json.loads(line)
                self.errors.setdefault(result["case"], {})[result["dtype"]] = result
                print(f"[{self.elapsed():5.0f} s] errors: " + accuracy.line(result["case"], result["dtype"], result), flush=True)
            timer.cancel()

    def summaries(self):
        """{case: {contender: summary}}; of this library no round may fail."""
        def of(name, rounds):
            failed, ran = ([r for r in rounds if ("error" in r) == wrong] for wrong in (True, False))
            return {"error": failed[0]["error"]} if failed and (name.startswith("moa") or not ran) else summary(ran)
        return {case: {name: of(name, rounds) for name, rounds in found.items()} for case, found in self.rounds.items()}

    def written(self):
        return {"machine": self.process.machine, "rounds": self.turns, "dtypes": self.options.dtypes, "cases": self.summaries(),
                "families": self.families, "errors": self.errors, "skipped": self.skipped, "seconds": self.elapsed()}

    def save(self):
        if self.options.json:
            self.options.json.write_text(json.dumps(self.written(), indent=1) + "\n")

    def run(self):
        steps = ([self.measure_times] if self.options.times else []) + ([self.measure_errors] if self.options.accuracy else [])
        for step in steps:
            try:
                step()
            finally:
                self.save()  # a run that is cut short keeps what it has


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed(cases.GPU), default=cases.GPU, metavar="NAME,...", help="default: all")
    parser.add_argument("--dtypes", type=listed(DTYPES), default=["bf16", "tf32"], metavar="NAME,...",
                        help="of this library's times (errors are measured in all); default: bf16,tf32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--min-runs", type=int, default=5, help="least timed batches of a contender")
    parser.add_argument("--min-time", type=float, default=0.1, help="least seconds of timed batches of a contender")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="end in this time")
    parser.add_argument("--compile", action="store_true", help="peers under torch.compile too: minutes more")
    parser.add_argument("--no-times", dest="times", action="store_false", help="errors only")
    parser.add_argument("--no-accuracy", dest="accuracy", action="store_false", help="times only")
    parser.add_argument("--timeout", type=float, default=300, help="seconds after which `moa bench` is given up")
    parser.add_argument("--start-timeout", type=float, default=120, help="seconds that PyTorch may take to start")
    parser.add_argument("--peer-timeout", type=float, default=40, help="seconds after which a peer is given up")
    parser.add_argument("--compile-timeout", type=float, default=150, help="the same of a compiled one")
    parser.add_argument("--verbose", action="store_true", help="show what the peers' process says on standard error")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was measured")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write README's table and figures")
    parser.add_argument("--plot", metavar="FILE", help="write a picture of the layers' times: .svg or .png")
    parser.add_argument("--from-json", metavar="FILE", type=Path, nargs="+", help="measure nothing: tables of what earlier runs wrote with --json")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.min_runs) < 1:
        parser.error("--rounds and --min-runs must be at least 1")
    if not (options.times or options.accuracy):
        parser.error("--no-times and --no-accuracy exclude each other")
    options.tool = None if options.from_json else tool(parser)
    return options


def joined(runs):
    """Runs of times and of errors as one; of what several measured, the last counts."""
    written = dict(next((run for run in runs if run["machine"]), runs[0]))
    for key in ("cases", "families", "errors"):
        written[key] = {}
        for run in runs:
            for case, found in run[key].items():
                written[key].setdefault(case, {}).update(found)
    return written


def main():
    options = parse_options()
    if options.from_json:
        written = joined([json.loads(file.read_text()) for file in options.from_json])
    else:
        comparison = Comparison(options)
        comparison.run()
        written = comparison.written()
    report_gpu.print_all(written)
    if options.markdown:
        options.markdown.write_text(report_gpu.gpu_markdown(written))
    if options.plot:
        report_gpu.plot_layers(options.plot, written)
    ours = [r for results in written["cases"].values() for name, r in results.items() if name.startswith("moa")]
    good = all("error" not in r for r in ours) and all(accuracy.holds(r) for of_case in written["errors"].values() for r in of_case.values())
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        print(f"compare_gpu: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
