"""PyTorch on a GPU: `python peers_gpu.py CASE...` times every peer of the cases and prints one JSON object.

Times are the GPU's own, by events around batches of calls, so that a peer that the host cannot feed fast enough shows the
time that its user waits. Needs torch with CUDA and the packages of requirements.txt; a package that is missing is an error
of its peers alone. The cases are those of workloads/layer_cases.cpp, by name.
"""

import argparse
import json
import statistics
import sys
import warnings
from contextlib import nullcontext

DIM_HEAD = 64


def mixture(batch, length, routed, experts, dim=512, heads=8, local=False, **more):
    return dict(batch=batch, length=length, dim=dim, heads=heads, context=None, dim_context=dim, mask=False,
                options=dict(num_routed_queries=routed, num_routed_key_values=routed, num_experts=experts, local_attn=local,
                             **(dict(local_attn_window_size=128) if local else {}))) | more


MIXTURES = {
    "moa_cross_readme": mixture(1, 1024, 16, 2, context=512, dim_context=256, mask=True)
    | dict(options=dict(num_routed_queries=16, num_routed_key_values=32, num_experts=2)),
    "moa_self_4096_e4": mixture(1, 4096, 1024, 4, local=True),
    "moa_self_4x4096_e4": mixture(4, 4096, 1024, 4, local=True),
    "moa_self_8192_e2": mixture(1, 8192, 4096, 2),
    "moa_self_2x8192_e2": mixture(2, 8192, 4096, 2),
    "moa_self_32768_e4": mixture(1, 32768, 4096, 4, dim=1024, heads=16),
}
ATTENTION = {f"attention_{n}x{h}_d{d}": (n, h, d, False) for n, h in ((1024, 128), (4096, 32), (16384, 16)) for d in (64, 128)}
ATTENTION |= {f"attention_4096x32_d{d}_masked": (4096, 32, d, True) for d in (64, 128)}
PROJECT = {f"project_{m}x{i}x{o}": (m, i, o) for m, i, o in ((4096, 512, 512), (16384, 512, 1536), (4096, 1024, 3072), (8192, 8192, 8192))}
ROUTERS = {"router_8x4096_k512": (8, 4096, 512), "router_8x32768_k4096": (8, 32768, 4096)}
CASES = [*MIXTURES, *ATTENTION, *PROJECT, *ROUTERS]

BATCH_MS = 10.0


def measure(torch, run, min_runs, min_ms):
    """Milliseconds a call: batches of at least BATCH_MS, one to warm up."""
    def batch(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / count

    batch(2)
    count = max(1, int(BATCH_MS / max(batch(3), 1e-3)))
    times = []
    while len(times) < min_runs or sum(times) * count < min_ms:
        times.append(batch(count))
    return {"median_ms": statistics.median(times), "min_ms": min(times), "spread": (max(times) - min(times)) / statistics.median(times), "runs": len(times)}


def package(torch, case, flash, autocast):
    """The package's layer as published: f32 weights, tf32 products, or bf16 by autocast."""
    import mixture_of_attention

    c = MIXTURES[case]
    layer = mixture_of_attention.MixtureOfAttention(dim=c["dim"], dim_context=c["dim_context"], heads=c["heads"], dim_head=DIM_HEAD,
                                                    use_triton=False, flash_attn=flash, **c["options"]).cuda().eval()
    x = torch.randn(c["batch"], c["length"], c["dim"], device="cuda")
    arguments = {}
    if c["context"]:
        arguments["context"] = torch.randn(c["batch"], c["context"], c["dim_context"], device="cuda")
    if c["mask"]:
        arguments["mask"] = torch.ones(c["batch"], c["length"], dtype=torch.bool, device="cuda")

    def run():
        with torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext():
            layer(x, **arguments)

    return run


def attend(torch, q, k, v, backend, mask=None):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
    with sdpa_kernel(backends[backend]):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def dense(torch, case, backend):
    """Attention of every token to every token in bf16: the least that a user would write, without norm or null key."""
    c = MIXTURES[case]
    inner, heads = c["heads"] * DIM_HEAD, c["heads"]
    make = lambda i, o: torch.nn.Linear(i, o, bias=False, device="cuda", dtype=torch.bfloat16)
    to_q, to_kv, to_out = make(c["dim"], inner), make(c["dim_context"], 2 * inner), make(inner, c["dim"])
    x = torch.randn(c["batch"], c["length"], c["dim"], device="cuda", dtype=torch.bfloat16)
    context = torch.randn(c["batch"], c["context"], c["dim_context"], device="cuda", dtype=torch.bfloat16) if c["context"] else x

    def run():
        split = lambda t: t.unflatten(-1, (heads, DIM_HEAD)).transpose(1, 2)
        k, v = to_kv(context).chunk(2, dim=-1)
        to_out(attend(torch, split(to_q(x)), split(k), split(v), backend).transpose(1, 2).flatten(2))

    return run


def attention(torch, case, backend):
    n, heads, width, masked = ATTENTION[case]
    q, k, v = (torch.randn(1, heads, n, width, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    mask = (torch.rand(1, 1, 1, n, device="cuda") < 2 / 3).expand(1, heads, n, n) if masked else None
    return lambda: attend(torch, q, k, v, backend, mask)


def project(torch, case, dtype):
    rows, inside, outside = PROJECT[case]
    x, w = (torch.randn(n, inside, device="cuda", dtype=dtype) for n in (rows, outside))
    return lambda: torch.nn.functional.linear(x, w)


def router(torch, case):
    from colt5_attention import coor_descent

    rows, length, k = ROUTERS[case]
    scores = torch.randn(rows, length, device="cuda")
    return lambda: coor_descent(scores, n_iters=20, k=min(k * 9 / 8, length), eps=0.03, eps_init=4.0, eps_decay=0.7).topk(k, dim=-1)


def peers(torch, case):
    """{name: function that prepares a run}."""
    if case in MIXTURES:
        found = {f"package, {'flash_attn' if flash else 'einsum'}, {'bf16 autocast' if autocast else 'tf32'}":
                 (lambda flash=flash, autocast=autocast: package(torch, case, flash, autocast)) for flash in (False, True) for autocast in (False, True)}
        return found | {f"dense bf16, {name}": (lambda name=name: dense(torch, case, name)) for name in ("flash", "cudnn")}
    if case in ATTENTION:
        backends = ("efficient", "cudnn") if ATTENTION[case][3] else ("flash", "cudnn")  # FlashAttention-2 takes no mask
        return {f"SDPA bf16, {name}": (lambda name=name: attention(torch, case, name)) for name in backends}
    if case in PROJECT:
        return {"cuBLAS, bf16": lambda: project(torch, case, torch.bfloat16), "cuBLAS, tf32": lambda: project(torch, case, torch.float32)}
    return {"package, coor_descent + topk": lambda: router(torch, case)}


def run_peer(torch, prepare, options):
    try:
        return measure(torch, prepare(), options.min_runs, options.min_time * 1e3)
    except Exception as error:  # a peer that cannot run is a line of the table
        return {"error": (str(error) or type(error).__name__).splitlines()[0]}
    finally:
        torch.cuda.empty_cache()


def copy_gbps(torch, options):
    a, b = (torch.zeros(1 << 28, device="cuda") for _ in range(2))
    return 2 * a.numel() * 4 / measure(torch, lambda: b.copy_(a), options.min_runs, 50)["median_ms"] / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=CASES)
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.1)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    answer, sys.stdout = sys.stdout, sys.stderr  # packages print what they find

    import torch

    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    result = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "copy_gbps": copy_gbps(torch, options), "cases": {}}
    with torch.inference_mode():
        for case in options.cases:
            result["cases"][case] = {name: run_peer(torch, prepare, options) for name, prepare in peers(torch, case).items()}
    json.dump(result, answer)


if __name__ == "__main__":
    main()
