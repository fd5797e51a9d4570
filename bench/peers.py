"""One PyTorch measurement in a process of its own: `python peers.py PEER CASE ...` prints one JSON object.

Needs torch and the packages mixture-of-attention, colt5-attention and local-attention (bench/requirements.txt). The cases
are those of workloads/layer_cases.cpp, by name.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
import warnings

DIM, HEADS, DIM_HEAD = 512, 8, 64
INNER = HEADS * DIM_HEAD

# Arguments of MixtureOfAttention besides dim, heads and dim_head; lengths of x and context; whether there is a mask.
MIXTURES = {
    "moa_cross_readme": dict(length=1024, context=512, dim_context=256, mask=True,
                             options=dict(num_routed_queries=16, num_routed_key_values=32, num_experts=2)),
    "moa_self_4096_e4": dict(length=4096, context=None, dim_context=DIM, mask=False,
                             options=dict(num_routed_queries=1024, num_routed_key_values=1024, num_experts=4,
                                          local_attn=True, local_attn_window_size=128)),
    "moa_self_8192_e2": dict(length=8192, context=None, dim_context=DIM, mask=False,
                             options=dict(num_routed_queries=4096, num_routed_key_values=4096, num_experts=2)),
}
DENSE = {f"dense_{length}": length for length in (1024, 4096, 8192)}
ROUTERS = {"router_8x4096_k512": (8, 4096, 512), "router_8x32768_k4096": (8, 32768, 4096)}

CASES = [*MIXTURES, *DENSE, *ROUTERS]
MATMUL = 2048


def peak_rss_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


MAX_SECONDS = 20.0


def measure(run, min_runs, min_seconds):
    """As `moa bench` does: one run to warm up, then at least so many runs and seconds; slow ones stop at MAX_SECONDS."""
    run()
    times = []
    while (len(times) < min_runs or sum(times) < min_seconds) and sum(times) < MAX_SECONDS:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return {"median_ms": statistics.median(times) * 1e3, "min_ms": min(times) * 1e3, "runs": len(times)}


def reference(case, dtype, flash):
    """The package's layer as published."""
    import torch
    import mixture_of_attention

    if case in DENSE:
        layer = mixture_of_attention.Attention(dim=DIM, dim_head=DIM_HEAD, heads=HEADS, groups=1, prenorm=True, flash=flash)
        x = torch.randn(1, DENSE[case], DIM).to(dtype)
        arguments = {}
    else:
        c = MIXTURES[case]
        layer = mixture_of_attention.MixtureOfAttention(dim=DIM, dim_context=c["dim_context"], heads=HEADS, dim_head=DIM_HEAD,
                                                        use_triton=False, flash_attn=flash, **c["options"])
        x = torch.randn(1, c["length"], DIM).to(dtype)
        arguments = {}
        if c["context"]:
            arguments["context"] = torch.randn(1, c["context"], c["dim_context"]).to(dtype)
        if c["mask"]:
            arguments["mask"] = torch.ones(1, c["length"], dtype=torch.bool)
    layer = layer.to(dtype).eval()
    return lambda: layer(x, **arguments)


def dense(case, dtype):
    """Attention of every token to every token: the least that a PyTorch user would write, without norm or null key."""
    import torch
    import torch.nn.functional as F

    c = MIXTURES.get(case) or dict(length=DENSE[case], context=None, dim_context=DIM)
    length, context_length = c["length"], c["context"] or c["length"]
    to_q = torch.nn.Linear(DIM, INNER, bias=False).to(dtype)
    to_kv = torch.nn.Linear(c["dim_context"], 2 * INNER, bias=False).to(dtype)
    to_out = torch.nn.Linear(INNER, DIM, bias=False).to(dtype)
    x = torch.randn(1, length, DIM).to(dtype)
    context = torch.randn(1, context_length, c["dim_context"]).to(dtype) if c["context"] else x

    def heads(t, n):
        return t.reshape(1, n, HEADS, DIM_HEAD).transpose(1, 2).contiguous()

    def run():
        k, v = to_kv(context).chunk(2, dim=-1)
        out = F.scaled_dot_product_attention(heads(to_q(x), length), heads(k, context_length), heads(v, context_length))
        return to_out(out.transpose(1, 2).reshape(1, length, INNER))

    return run


def router(case):
    """Coordinate descent and top-k on given scores, as the package's router runs them."""
    import torch
    from colt5_attention import coor_descent

    rows, length, k = ROUTERS[case]
    scores = torch.randn(rows, length)

    def run():
        soft = coor_descent(scores, n_iters=20, k=min(k * 9 / 8, length), eps=0.03, eps_init=4.0, eps_decay=0.7)
        return soft.topk(k, dim=-1)

    return run


def matmul_gflops(dtype):
    """The rate of torch.matmul; None where it would take seconds, as bf16 does on CPUs without instructions for it."""
    import torch

    for size in (MATMUL // 4, MATMUL):
        a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        times = measure(lambda: torch.matmul(a, b), 5, 0.3)
        if times["min_ms"] > 500:
            return None
    return 2 * MATMUL ** 3 / times["median_ms"] / 1e6


def make(peer, case, dtype):
    if peer in ("flash", "plain"):
        return router(case) if case in ROUTERS else reference(case, dtype, flash=peer == "flash")
    return dense(case, dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=["flash", "plain", "dense"])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.5)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")

    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(1)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.dtype]
    result = {"torch": torch.__version__, "threads": torch.get_num_threads(), "imported_rss_mb": peak_rss_mb()}
    with torch.inference_mode():
        result |= measure(make(arguments.peer, arguments.case, dtype), arguments.min_runs, arguments.min_time)
        result["peak_rss_mb"] = peak_rss_mb()
        if arguments.peer == "dense":  # the yardstick, in the same process and moment
            result["matmul_gflops"] = matmul_gflops(dtype)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
