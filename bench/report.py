"""Tables and pictures of comparisons."""

import sys

import accuracy


def text(value, pattern="{:.2f} x"):
    return "-" if value is None else pattern.format(value)


def digits(value):
    """Three significant digits, as README has them."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def print_case(case, dtype, results):
    known = next((r["flops"] for r in results.values() if r.get("flops")), None)
    print(f"{case}, {dtype}" + (f": {known / 1e9:.3g} GFLOP" if known else ""))
    for name, r in results.items():
        if "error" in r:
            print(f"  {name:<42} did not run: {r['error'][:100]}")
            continue
        rate = f"{known / r['median_ms'] / 1e6:8.1f} GFLOP/s" if known and name == "moa" else " " * 16
        more = f"  torch.matmul {r['matmul_gflops']:.0f} GFLOP/s" if "matmul_gflops" in r else ""
        print(f"  {name:<42} {r['median_ms']:10.3f} ms  min {r['min_ms']:10.3f}  spread {100 * r['spread']:5.1f} %  others {100 * r['others']:3.0f} % "
              f"{rate}  memory: layer {text(r.get('layer_mb'), '{:6.1f}')} MB, run {text(r.get('run_mb'), '{:6.1f}')} MB{more}")
    sys.stdout.flush()


def print_errors(case, errors):
    for dtype, result in errors.items():
        print("  largest errors: " + accuracy.line(case, dtype, result))
    sys.stdout.flush()


def print_conclusions(rows, disturbed):
    print(f"\n{'case':<22} {'dtype':<5} {'package/moa':>12} {'by minima':>10} {'dense/moa':>10} {'by minima':>10} {'moa/matmul':>11} "
          f"{'run MB':>7} {'package':>8} {'dense':>7}  best setting")
    for row in rows:
        mb = [text(row[key], "{:.1f}") for key in ("run_mb", "package_run_mb", "dense_run_mb")]
        print(f"{row['case']:<22} {row['dtype']:<5} {text(row['package']):>12} {text(row['package_min']):>10} {text(row['dense']):>10} {text(row['dense_min']):>10} "
              f"{text(row['ideal']):>11} {mb[0]:>7} {mb[1]:>8} {mb[2]:>7}  {row['setting'] or '-'}; {row['dense_setting'] or '-'}")
    print("\npackage/moa, dense/moa: above 1, this library is faster than the best setting. moa/matmul: its time over that of its floating-point\n"
          "operations at the rate of torch.matmul of 2048 x 2048 in the same rounds. Dense: every token attends to every token.")
    if disturbed:
        print(f"\nOther programs used up to {100 * disturbed:.0f} % of the cores during a measurement: do not quote these figures.")


def markdown(head, rows):
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(head), "|" + "---|" * len(head), *(line(row) for row in rows)]) + "\n"


def error_sentences(errors):
    """The largest ratio of every dtype, and what did not run."""
    lines = []
    for dtype in dict.fromkeys(d for of_case in errors.values() for d in of_case):
        ratios = {case: of_case[dtype]["ratio"] for case, of_case in errors.items() if "ratio" in of_case.get(dtype, {})}
        if ratios:
            worst = max(ratios, key=ratios.get)
            lines.append(f"{dtype}: {min(ratios.values()):.2f} to {ratios[worst]:.2f} times PyTorch's largest error in {len(ratios)} cases, the most in `{worst}`.")
    lines += [f"{case}, {dtype}: {r['error']}" for case, of_case in errors.items() for dtype, r in of_case.items() if "error" in r]
    return lines


def cpu_markdown(title, rows, errors):
    table = []
    for case in dict.fromkeys(row["case"] for row in rows):
        f32, bf16 = (next((row for row in rows if row["case"] == case and row["dtype"] == dtype), {}) for dtype in ("f32", "bf16"))
        table.append([f"`{case}`", digits(f32.get("package_ms")), digits(f32.get("dense_ms")), digits(f32.get("moa_ms")),
                      text(f32.get("package"), "{:.2g}").replace("-", ""), text(f32.get("dense"), "{:.2g}").replace("-", ""),
                      digits(bf16.get("package_ms")), digits(bf16.get("dense_ms")), digits(bf16.get("moa_ms")),
                      " / ".join(digits(f32.get(key)) or "-" for key in ("run_mb", "package_run_mb"))])
    head = ["case", "package f32", "dense f32", "moa f32", "package / moa", "dense / moa", "package bf16", "dense bf16", "moa bf16", "MB of a run, moa / package"]
    spreads = [max((row["spreads"][i] for row in rows if row["spreads"][i] is not None), default=0) for i in range(3)]
    ideals = {row["case"]: row["ideal"] for row in rows if row["ideal"] and row["dtype"] == "f32"}
    lines = [f"Medians spread by up to {100 * spreads[0]:.0f} % (ours), {100 * spreads[1]:.0f} % (package), {100 * spreads[2]:.0f} % (dense).",
             "Time over that of the floating-point operations at torch.matmul's f32 rate: " + ", ".join(f"`{case}` {value:.2f}" for case, value in ideals.items()) + ".",
             "Best settings, f32: " + "; ".join(f"`{row['case']}` {row['setting']}" for row in rows if row["dtype"] == "f32" and row["setting"]) + "."]
    return f"{title}\n\n" + markdown(head, table) + "\n" + "\n".join([*lines, *error_sentences(errors)]) + "\n"


COLOURS = {"package": "#8c8c8c", "dense": "#55a868", "moa": "#dd8452"}


def plot(path, title, shown):
    """Bars on a logarithmic scale: {case: [(label, milliseconds)]}; the label's first word picks the colour, bf16 is lighter."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = {case: found for case, found in shown.items() if found}
    total = sum(map(len, bars.values()))
    figure, axes = pyplot.subplots(figsize=(max(8, 1 + 0.27 * (total + len(bars))), 4.5), layout="constrained")
    begin, middles, labelled = 0, [], set()
    for case, found in bars.items():
        for place, (label, ms) in enumerate(found, begin):
            colour = COLOURS.get(label.replace(",", "").split()[0], "#4c72b0")
            bar = axes.bar(place, ms, 0.92, color=colour, alpha=0.55 if "bf16" in label and "moa" not in label else 1,
                           hatch="//" if label.startswith("moa") and "bf16" in label else None, edgecolor="white", label=None if label in labelled else label)
            axes.bar_label(bar, fmt=digits, fontsize=6, padding=2)
            labelled.add(label)
        middles.append(begin + (len(found) - 1) / 2)
        begin += max(len(found), 3) + 1  # room for the names below
    axes.set_yscale("log")
    axes.margins(x=0.02, y=0.1)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_ylabel("median in ms (lower is better)")
    axes.set_xticks(middles, [case.removeprefix("moa_").replace("_", "\n", 1) for case in bars])
    axes.tick_params(axis="x", length=0, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
