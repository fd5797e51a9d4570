"""The comparison scripts of bench/ without PyTorch: python3 scripts_test.py PATH_OF_MOA"""

import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import accuracy  # noqa: E402
import cases  # noqa: E402
import compare_gpu  # noqa: E402
import measuring  # noqa: E402
import peer_process  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import report_gpu  # noqa: E402

TOOL = sys.argv.pop()

# Stands for peers_gpu.py: a peer named `hangs` hangs, `dies` ends the process, and after `spoils` it ends by itself.
PEERS = """
import json, os, sys, time
tell = lambda **what: print(json.dumps(what), flush=True)
wanted = json.load(sys.stdin)
tell(machine={"gpu": "none", "torch": "none", "copy_gbps": 1.0})
for case, name in wanted:
    tell(begin=[case, name])
    if name == "hangs":
        time.sleep(60)
    if name == "dies":
        os._exit(3)
    if name.endswith("graph") and name.startswith("package"):
        tell(peer=[case, name], result={"error": "operation not permitted when stream is capturing"})
        sys.exit(0)
    tell(peer=[case, name], result={"median_ms": 2.0, "min_ms": 1.0, "spread": 0.1, "layer_mb": 1.0, "run_mb": 4.0})
"""

MOA = """#!{python}
import json, sys
chosen = [value for option, value in zip(sys.argv, sys.argv[1:]) if option == "--case"]
print(json.dumps({{"cases": [{{"case": case, "median_ms": 0.5, "min_ms": 0.4, "flops": 1e9, "workspace_bytes": 2 ** 20, "output_bytes": 0, "launches": 9, "launch_ms": 0.1}}
                           for case in chosen]}}))
"""


def options(**more):
    return types.SimpleNamespace(verbose=False, peer_timeout=4, compile_timeout=4, start_timeout=30, **more)


class Names(unittest.TestCase):
    def test_cases_are_those_of_the_suite(self):
        refused = subprocess.run([TOOL, "bench", "--suite", "reference", "--case", "none"], capture_output=True, text=True, check=False)
        known = refused.stderr.split("must be one of ")[1].split()
        self.assertEqual({name.rstrip(",") for name in known}, {*cases.CPU, *cases.GPU})

    def test_every_case_has_peers(self):
        for case in cases.GPU:
            self.assertTrue(any(peer.rank == 0 for peer in peers.gpu_peers(case).values()), case)
        for case in cases.CPU:
            self.assertTrue(peers.cpu_peers(case, "f32"), case)
        self.assertIn("package, triton, flash_attn, tf32", peers.gpu_peers("moa_cross_readme"))  # the package's default


class Processes(unittest.TestCase):
    def results(self, *names, deadline=None):
        process = peer_process.PeerProcess(options(), [sys.executable, "-c", PEERS])
        return {name: result for _, name, result in process.results([("case", name) for name in names], deadline)}

    def test_a_peer_that_hangs_or_dies_costs_only_itself(self):
        found = self.results("a", "hangs", "b", "dies", "package, graph", "c")
        self.assertEqual(list(found), ["a", "hangs", "b", "dies", "package, graph", "c"])
        self.assertEqual({name for name, result in found.items() if "error" not in result}, {"a", "b", "c"})
        self.assertIn("took more than", found["hangs"]["error"])
        self.assertIn("exit code 3", found["dies"]["error"])

    def test_a_deadline_leaves_peers_out(self):
        self.assertEqual(self.results("hangs", "a", deadline=time.monotonic() + 1), {})

    def test_a_process_that_does_not_start_is_a_failure(self):
        process = peer_process.PeerProcess(options(), [sys.executable, "-c", "raise SystemExit(5)"])
        with self.assertRaises(measuring.Failure):
            list(process.results([("case", "a")]))


class Tables(unittest.TestCase):
    def test_a_whole_comparison(self):
        with tempfile.TemporaryDirectory() as folder:
            tool = Path(folder, "moa")
            tool.write_text(MOA.format(python=sys.executable))
            tool.chmod(0o755)
            compare_gpu.tool = lambda parser: str(tool)
            parsed = compare_gpu.parse_options(["--cases", "moa_cross_readme,project_4096x512x512,router_8x4096_k512", "--rounds", "2", "--no-accuracy"])
            comparison = compare_gpu.Comparison(parsed, peer_process.PeerProcess(parsed, [sys.executable, "-c", PEERS]))
            comparison.run()
        written = comparison.written()
        self.assertEqual(len(written["cases"]["moa_cross_readme"]["moa, bf16"]["rounds"]), 2)
        self.assertIn("moa, f32", written["cases"]["router_8x4096_k512"])
        self.assertIn("error", written["cases"]["moa_cross_readme"]["package, triton, flash_attn, tf32, graph"])
        written["errors"] = {"moa_cross_readme": {"bf16": {"moa": 3.0, "torch": 2.0, "ratio": 1.5, "largest": 9.0}}}
        shown = report_gpu.gpu_markdown(written)
        row = next(line for line in shown.splitlines() if line.startswith("| `moa_cross_readme`"))
        self.assertIn("| 4.00 | 4.00 | 1.00 / 4.00 | 9 |", row)  # 2 ms over 0.5, and memory
        self.assertIn("bf16: 1.50 to 1.50 times PyTorch's largest error", shown)
        report_gpu.print_all(written)
        errors_only = written | {"machine": {}, "cases": {"moa_cross_readme": {}}, "errors": {"moa_cross_readme": {"f16": {"error": "no"}}}}
        both = compare_gpu.joined([errors_only, written])
        self.assertEqual((both["cases"], set(both["errors"]["moa_cross_readme"])), (written["cases"], {"f16", "bf16"}))

    def test_the_rule_of_errors(self):
        self.assertTrue(accuracy.holds({"ratio": 2.0}))
        self.assertFalse(accuracy.holds({"ratio": 2.01}) or accuracy.holds({"ratio": float("nan")}) or accuracy.holds({"error": "no"}))
        self.assertIn("ABOVE 2", accuracy.line("case", "f32", {"moa": 3.0, "torch": 1.0, "ratio": 3.0, "largest": 9.0}))

    def test_only_those_near_the_best_contend(self):
        results = {"a": {"median_ms": 1.0}, "b": {"median_ms": 1.2}, "c": {"median_ms": 2.0}, "d": {"median_ms": 5.0}, "e": {"error": "no"}}
        self.assertEqual(measuring.contending(results, dict(a="x", b="x", c="x", d="y", e="y")), ["a", "b", "d"])
        self.assertEqual(measuring.winner(results, dict(a="x", b="x"), "x")[0], "a")

    def test_three_digits(self):
        self.assertEqual([report.digits(value) for value in (0.04949, 1.5, 12.34, 123.4, 1234.5, None)], ["0.0495", "1.50", "12.3", "123", "1234", ""])


if __name__ == "__main__":
    unittest.main()
