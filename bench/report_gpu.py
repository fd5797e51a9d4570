"""Tables and README's figures of compare_gpu.py, from what it measured."""

import cases
import report
from measuring import ratio, winner


def best(written, case, families):
    """(name, result) of the fastest of several families."""
    found = [winner(written["cases"].get(case, {}), written["families"].get(case, {}), family) for family in families]
    return min((f for f in found if f[0]), key=lambda f: f[1]["median_ms"], default=(None, None))


def ours(written, case, dtype):
    result = written["cases"].get(case, {}).get(f"moa, {dtype}", {})
    return result if "median_ms" in result else None


def kinds(case, dtype):
    """{column: families} that a dtype of this library is compared with."""
    if case in cases.PROJECT:
        return {"cuBLAS": ["cuBLAS bf16" if dtype in ("bf16", "f16") else "cuBLAS tf32"]}
    if case in cases.MIXTURES:
        return {"package": ["package"]} | {f"dense {backend}": [f"dense {backend}"] for backend in ("flash", "cuDNN", "default", "efficient")}
    if case in cases.ATTENTION:
        return {backend: [f"SDPA {backend}"] for backend in ("flash", "cuDNN", "default", "efficient")}
    return {"package": ["package"], "SDPA": ["SDPA"], "flex": ["flex"]}


def print_case(case, results):
    flops = next((r["flops"] for r in results.values() if r.get("flops")), None)
    print(f"{case}" + (f": {flops / 1e9:.4g} GFLOP" if flops else ""))
    for name, r in results.items():
        if "error" in r:
            print(f"  {name:<46} did not run: {r['error'][:110]}")
            continue
        rate = f"{flops / r['median_ms'] / 1e9:8.1f} TFLOP/s" if flops and (name.startswith("moa") or case not in cases.MIXTURES) else ""
        launches = f"  {r['launches']} launches, {r['launch_ms']:.4f} ms of the host" if "launches" in r else ""
        memory = f"  {mb_of_run(r):.1f} MB in a run" if mb_of_run(r) is not None else ""
        print(f"  {name:<46} {r['median_ms']:10.4f} ms  min {r['min_ms']:10.4f}  spread {100 * r['spread']:5.1f} %  {rate}{memory}{launches}")


def mb_of_run(result):
    """What a run takes beside inputs and weights: of PyTorch as measured, of this library workspace and outputs."""
    if result.get("run_mb") is not None:
        return result["run_mb"]
    return (result["workspace_bytes"] + result["output_bytes"]) / 2 ** 20 if "workspace_bytes" in result else None


def print_all(written):
    machine = written["machine"]
    if machine:
        print(f"\n{machine['gpu']}, torch {machine['torch']}, copies {machine['copy_gbps']:.0f} GB/s, {written['rounds']} round(s), {written['seconds']:.0f} s\n")
    for case, results in written["cases"].items():
        if results:
            print_case(case, results)
    if written["skipped"]:
        print(f"\nno time was left for {len(written['skipped'])} peer(s): " + "; ".join(f"{case} {name}" for case, name in written["skipped"]))
    print("\nTimes of the fastest peers over this library's; above 1, this library is faster:\n")
    for case in written["cases"]:
        for dtype in written["dtypes"] if case not in cases.ROUTERS else ["f32"]:
            mine = ours(written, case, dtype)
            parts = [f"{column} {ratio(result, mine):7.2f} x ({name})" for column, families in kinds(case, dtype).items()
                     for name, result in [best(written, case, families)] if mine and result]
            if parts:
                print(f"{case:<28} {dtype:<5} " + "; ".join(parts))
    for case, of_case in written["errors"].items():
        report.print_errors(case, of_case)


# --- README -----------------------------------------------------------------------------------------------------------

def gpu_table(written):
    head = ["case", "package", "its setting", "dense, FA2", "dense, cuDNN", "moa bf16", "moa tf32", "package / moa", "best dense / moa", "MB of a run, moa / package", "launches"]
    rows = []
    for case in written["cases"]:
        if case not in cases.MIXTURES and case not in cases.ROUTERS:
            continue
        router = case in cases.ROUTERS
        mine = ours(written, case, "f32" if router else "bf16")
        tf32 = ours(written, case, "tf32")
        setting, package = best(written, case, ["package"])
        flash, cudnn = (best(written, case, [f"dense {backend}"])[1] for backend in ("flash", "cuDNN"))
        dense = best(written, case, [f"dense {backend}" for backend in ("flash", "cuDNN", "default", "efficient")])[1]
        ms = lambda r: report.digits(r and r["median_ms"])
        times = lambda value: "" if value is None else report.digits(value)
        memory = " / ".join(report.digits(r and mb_of_run(r)) or "-" for r in (mine, package))
        rows.append([f"`{case}`", ms(package), (setting or "").removeprefix("package, "), ms(flash), ms(cudnn), ms(mine) + (" (f32)" if router and mine else ""), ms(tf32),
                     times(ratio(package, mine)), times(ratio(dense, mine)), memory, str(mine["launches"]) if mine else ""])
    return report.markdown(head, rows)


def rates(written, chosen, families, dtype):
    """Of operations: TFLOP/s of this library, and its rate as a part of each family's."""
    lines = []
    for case in chosen:
        mine = ours(written, case, dtype)
        if not mine:
            continue
        others = [f"{column} {mine['flops'] / result['median_ms'] / 1e9:.0f} (x {ratio(result, mine):.2f}, {name})" for column, found in families(case).items()
                  for name, result in [best(written, case, found)] if result]
        lines.append(f"- `{case}` {dtype}: {mine['flops'] / mine['median_ms'] / 1e9:.0f} TFLOP/s, {report.digits(mine['median_ms'])} ms; " + "; ".join(others))
    return lines


def spreads(written):
    found = {}
    for case, results in written["cases"].items():
        for name, r in results.items():
            kind = "ours" if name.startswith("moa") else written["families"][case][name].split()[0]
            if "spread" in r and len(r["rounds"]) > 1 and (case in cases.MIXTURES or case in cases.ROUTERS):
                found[kind] = max(found.get(kind, (0, "")), (r["spread"], f"{case}, {name}"))
    return "Largest spreads: " + "; ".join(f"{kind} {100 * value:.1f} % ({where})" for kind, (value, where) in found.items()) + "."


def gpu_markdown(written):
    machine = written["machine"]
    lines = [f"{machine.get('gpu', '?')}, PyTorch {machine.get('torch', '?')}, {written['rounds']} round(s), medians in ms; launches and memory are of bf16.", "", gpu_table(written)]
    for dtype in written["dtypes"]:
        lines += rates(written, [c for c in written["cases"] if c in cases.ATTENTION], lambda case: kinds(case, "bf16"), dtype)
        lines += rates(written, [c for c in written["cases"] if c in cases.LOCAL], lambda case: kinds(case, "bf16"), dtype)
        lines += rates(written, [c for c in written["cases"] if c in cases.PROJECT], lambda case, d=dtype: kinds(case, d), dtype)
    lines += ["", spreads(written), *report.error_sentences(written["errors"])]
    failed = {name: r["error"] for results in written["cases"].values() for name, r in results.items() if "error" in r and not name.startswith("moa")}
    lines += ["", "Did not run:", *(f"- {name}: {error[:160]}" for name, error in failed.items())] if failed else []
    return "\n".join(lines) + "\n"


def plot_layers(path, written):
    """Layers and routers: the fastest package, the fastest dense layer, and this library."""
    shown = {}
    for case in written["cases"]:
        if case in cases.MIXTURES:
            bars = [("package", best(written, case, ["package"])[1]), ("dense bf16", best(written, case, [f"dense {b}" for b in ("flash", "cuDNN", "default", "efficient")])[1]),
                    ("moa bf16", ours(written, case, "bf16")), ("moa tf32", ours(written, case, "tf32"))]
        elif case in cases.ROUTERS:
            bars = [("package", best(written, case, ["package"])[1]), ("moa f32", ours(written, case, "f32"))]
        else:
            continue
        shown[case] = [(label, result["median_ms"]) for label, result in bars if result]
    report.plot(path, f"{written['machine'].get('gpu', '')}, PyTorch {written['machine'].get('torch', '')}, best settings of peers", shown)
