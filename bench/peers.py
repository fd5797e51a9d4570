"""What PyTorch is measured as: for every case, the contenders and how each is made, on a CPU and on a GPU.

Every package runs with its own defaults and with every setting that could be faster; the fastest counts. Needs torch and the
packages of requirements.txt; one that is missing is an error of its peers alone.
"""

import functools
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Callable

import cases

BACKENDS = {"flash": "FLASH_ATTENTION", "cuDNN": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION"}


@dataclass
class Peer:
    """family: peers that compete with each other. rank: 0 is wanted always; higher ones are dropped first when time is short.
    prepare: makes the layer and its inputs, and gives a function without arguments. mode: eager, graph or compiled."""
    family: str
    rank: int
    prepare: Callable
    mode: str = "eager"


def package(case, device, attention="flash_attn", triton=True, precision="f32"):
    """The package's layer. precision: f32 (on a GPU with products of tf32), autocast to bf16, or bf16 for everything."""
    import mixture_of_attention
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    c = cases.layer_of(case)
    common = dict(dim=c["dim"], heads=c["heads"], dim_head=cases.DIM_HEAD)
    flash = attention != "einsum"
    with torch.device(device):
        if case in cases.DENSE:
            layer = mixture_of_attention.Attention(groups=1, prenorm=True, flash=flash, **common)
        else:
            layer = mixture_of_attention.MixtureOfAttention(dim_context=c["dim_context"], use_triton=triton, flash_attn=flash, **common, **c["options"])
    attend = (layer if case in cases.DENSE else layer.attn).attend
    if attention == "flash_attn, contiguous":  # the package hands q over with a strided last axis, for which PyTorch has no fused kernel
        attend.flash_attn = functools.partial(lambda f, q, k, v, mask=None: f(q.contiguous(), k.contiguous(), v.contiguous(), mask=mask), attend.flash_attn)
    layer = layer.to(dtype).eval()
    x = torch.randn(c["batch"], c["length"], c["dim"], device=device, dtype=dtype)
    arguments = {}
    if c["context"]:
        arguments["context"] = torch.randn(c["batch"], c["context"], c["dim_context"], device=device, dtype=dtype)
    if c["mask"]:
        arguments["mask"] = torch.ones(c["batch"], c["length"], dtype=torch.bool, device=device)

    def run():
        with torch.autocast(device, torch.bfloat16) if precision == "autocast" else nullcontext():
            return layer(x, **arguments)

    return run


def attend(q, k, v, backend=None, mask=None):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, BACKENDS[backend])) if backend else nullcontext():
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def dense(case, device, dtype, backend=None, contiguous=False):
    """Attention of every token to every token: the least that a user would write, without norm or null key."""
    import torch

    dtype = getattr(torch, dtype)
    c = cases.layer_of(case)
    inner, heads = c["heads"] * cases.DIM_HEAD, c["heads"]
    make = lambda i, o: torch.nn.Linear(i, o, bias=False, device=device, dtype=dtype)
    to_q, to_kv, to_out = make(c["dim"], inner), make(c["dim_context"], 2 * inner), make(inner, c["dim"])
    x = torch.randn(c["batch"], c["length"], c["dim"], device=device, dtype=dtype)
    context = torch.randn(c["batch"], c["context"], c["dim_context"], device=device, dtype=dtype) if c["context"] else x

    def split(t):
        t = t.unflatten(-1, (heads, cases.DIM_HEAD)).transpose(1, 2)
        return t.contiguous() if contiguous else t

    def run():
        k, v = to_kv(context).chunk(2, dim=-1)
        return to_out(attend(split(to_q(x)), split(k), split(v), backend).transpose(1, 2).flatten(2))

    return run


def attention(case, device, backend=None):
    import torch

    n, heads, width, masked = cases.ATTENTION[case]
    q, k, v = (torch.randn(1, heads, n, width, device=device, dtype=torch.bfloat16) for _ in range(3))
    mask = (torch.rand(1, 1, 1, n, device=device) < 2 / 3).expand(1, heads, n, n) if masked else None
    return lambda: attend(q, k, v, backend, mask)


def local_inputs(case, device, dtype):
    import torch

    n, heads, width = cases.LOCAL[case]
    return [torch.randn(1, heads, n, width, device=device, dtype=getattr(torch, dtype)) for _ in range(3)]


def local_package(case, device, precision):
    import torch
    from local_attention import LocalAttention

    layer = LocalAttention(window_size=cases.WINDOW, dim=cases.LOCAL[case][2], exact_windowsize=True).to(device).eval()
    q, k, v = local_inputs(case, device, "bfloat16" if precision == "bf16" else "float32")

    def run():
        with torch.autocast(device, torch.bfloat16) if precision == "autocast" else nullcontext():
            return layer(q, k, v)

    return run


def local_windows(case, device, dtype):
    """scaled_dot_product_attention over windows and their neighbours, with rotary positions and a mask."""
    import torch
    from torch_layers import local_attention

    q, k, v = local_inputs(case, device, dtype)
    width = q.shape[-1]
    inv_freq = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    return lambda: local_attention(q, k, v, cases.WINDOW, inv_freq)


def local_flex(case, device, dtype):
    """flex_attention, which has to be compiled; without rotary positions."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = local_inputs(case, device, dtype)
    n = q.shape[-2]
    mask = create_block_mask(lambda b, h, i, j: ((i - j).abs() <= cases.WINDOW) & ((i // cases.WINDOW - j // cases.WINDOW).abs() <= 1), None, None, n, n, device=device)
    compiled = torch.compile(flex_attention)
    return lambda: compiled(q, k, v, block_mask=mask)


def project(case, device, dtype):
    import torch

    rows, inside, outside = cases.PROJECT[case]
    x, w = (torch.randn(n, inside, device=device, dtype=getattr(torch, dtype)) for n in (rows, outside))
    return lambda: torch.nn.functional.linear(x, w)


def router(case, device, triton):
    """Coordinate descent and top-k on given scores, as the package's router runs them."""
    import torch

    if triton:
        from colt5_attention.triton_coor_descent import triton_coor_descent

        descend = functools.partial(triton_coor_descent, checkpoint_segments=cases.ROUTER_OPTIONS["n_iters"] // 5)
    else:
        from colt5_attention import coor_descent as descend
    rows, length, k = cases.ROUTERS[case]
    scores = torch.randn(rows, length, device=device)
    return lambda: descend(scores, k=cases.fetched(length, k), **cases.ROUTER_OPTIONS).topk(k, dim=-1)


# --- which there are --------------------------------------------------------------------------------------------------

def eager_and_graph(name, family, rank, prepare):
    return {f"{name}": Peer(family, rank, prepare), f"{name}, graph": Peer(family, rank, prepare, "graph")}


def compiled(name, family, prepare, rank=3):
    return {f"{name}, compiled": Peer(family, rank, prepare, "compiled")}


def gpu_mixture(case, device):
    found = {}
    for triton in (True, False):
        for kind in ("flash_attn", "einsum", "flash_attn, contiguous"):
            for precision, shown in (("f32", "tf32"), ("autocast", "bf16 autocast"), ("bf16", "bf16")):
                rank = 2 if not triton else int(precision == "bf16" or "contiguous" in kind)
                make = functools.partial(package, case, device, kind, triton, precision)
                name = f"package, {'triton, ' if triton else ''}{kind}, {shown}"
                found[name] = Peer("package", rank, make)
                if triton and precision == "f32" and "contiguous" not in kind:
                    found[f"{name}, graph"] = Peer("package", 2, make, "graph")
                    found |= compiled(name, "package", make)
    for backend in ("flash", "cuDNN", None, "efficient"):
        for contiguous in (False, True):
            name = f"dense bf16, {backend or 'default'}{', contiguous' if contiguous else ''}"
            make = functools.partial(dense, case, device, "bfloat16", backend, contiguous)
            found |= eager_and_graph(name, f"dense {backend or 'default'}", 0 if backend in ("flash", "cuDNN") and not contiguous else 1 + (backend == "efficient"), make)
            if not backend and not contiguous:
                found |= compiled(name, "dense default", make)
    return found


def gpu_peers(case, device="cuda"):
    """{name: Peer} of a case on a GPU."""
    partial = functools.partial
    if case in cases.MIXTURES:
        return gpu_mixture(case, device)
    found = {}
    if case in cases.ATTENTION:
        backends = ("efficient", "cuDNN", None) if cases.ATTENTION[case][3] else ("flash", "cuDNN", None, "efficient")  # FlashAttention-2 takes no mask
        for rank, backend in enumerate(backends):
            found |= eager_and_graph(f"SDPA bf16, {backend or 'default'}", f"SDPA {backend or 'default'}", rank // 2, partial(attention, case, device, backend))
    elif case in cases.LOCAL:
        for precision in ("f32", "autocast"):
            shown = "tf32" if precision == "f32" else "bf16 autocast"
            found[f"local-attention, {shown}"] = Peer("package", 0, partial(local_package, case, device, precision))
        windows = partial(local_windows, case, device, "bfloat16")
        found |= eager_and_graph("SDPA over windows, bf16", "SDPA", 0, windows) | compiled("SDPA over windows, bf16", "SDPA", windows)
        found["flex_attention without rotary, bf16, compiled"] = Peer("flex", 3, partial(local_flex, case, device, "bfloat16"))
    elif case in cases.PROJECT:
        for shown, dtype in (("bf16", "bfloat16"), ("tf32", "float32")):
            found |= eager_and_graph(f"cuBLAS, {shown}", f"cuBLAS {shown}", 0, partial(project, case, device, dtype))
    else:
        for triton in (True, False):
            make = partial(router, case, device, triton)
            found |= eager_and_graph(f"package, {'triton_coor_descent' if triton else 'coor_descent'} + topk", "package", 0, make)
            # Without --compile too where it is quick and counts: loops of small operations become one.
            found |= compiled(f"package, {'triton_coor_descent' if triton else 'coor_descent'} + topk", "package", make, 3 if triton else 1)
    return found


def cpu_peers(case, dtype):
    """{name: Peer} of a case in a dtype on the CPU. Triton, which the package uses by default, does nothing there."""
    partial = functools.partial
    storage = {"f32": "float32", "bf16": "bfloat16"}[dtype]
    found = {}
    if case in cases.ROUTERS:
        found["package, coor_descent + topk"] = Peer("package", 0, partial(router, case, "cpu", False))
        return found | compiled("package, coor_descent + topk", "package", found["package, coor_descent + topk"].prepare, 1)
    if case in cases.LOCAL:
        windows = partial(local_windows, case, "cpu", storage)
        found["package"] = Peer("package", 0, partial(local_package, case, "cpu", dtype))
        found["SDPA over windows"] = Peer("dense", 0, windows)
        return found | compiled("SDPA over windows", "dense", windows)
    for kind in ("flash_attn", "einsum", "flash_attn, contiguous"):
        found[f"package, {kind}"] = Peer("package", 0, partial(package, case, "cpu", kind, True, dtype))
    found |= compiled("package, flash_attn, contiguous", "package", found["package, flash_attn, contiguous"].prepare)
    for contiguous in (False, True):
        found[f"dense SDPA{', contiguous' if contiguous else ''}"] = Peer("dense", 0, partial(dense, case, "cpu", storage, None, contiguous))
    return found | compiled("dense SDPA", "dense", found["dense SDPA"].prepare)
