"""The accuracy rule: on the same weights, inputs and routes, the largest error of this library against double precision is at
most twice that of PyTorch in the same dtype.

    MOA_TOOL=<path of moa> python3 bench/accuracy.py [--cases NAME,...] [--dtypes f32,bf16,...] [--device cuda:0]

Weights and inputs are drawn so that the dtype holds them exactly. The truth is torch_layers.py in float64; the same code in the
dtype gives PyTorch's error (tf32: its unfused attention, since its fused kernels have no tf32), `moa run` on the same numbers ours.
Attention alone is a layer whose projections are identities, which are exact; it has fewer heads than the case that is timed.
Routers are compared by the soft scores of the selected. Prints a line a case and dtype; --lines prints JSON objects instead.
Exit code: 1 if a ratio is above 2 or a case did not run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import cases
from options import DTYPES, listed, tool

LIMIT = 2.0
HEADS = 4  # of attention alone


class Subject:
    """A case as a file for `moa run`, and as a function of PyTorch: the tensors of the file -> what is compared."""

    def __init__(self, module, init, weights, inputs, compute, call=None, fix=(), routed=False):
        self.config = dict(name="accuracy", module=module, init=init, call=call or {}, fix=list(fix))
        self.weights, self.inputs, self.compute, self.routed = weights, inputs, compute, routed
        self.routes = {}


class Draw:
    """Random numbers on a device, of one seed."""

    def __init__(self, torch, device):
        self.torch, self.device = torch, device
        self.generator = torch.Generator(device).manual_seed(1)

    def normal(self, *shape, scale=1.0):
        return self.torch.randn(shape, generator=self.generator, device=self.device) * scale

    def matrix(self, out, inside, *more):
        return self.normal(out, inside, *more, scale=inside ** -0.5)

    def gain(self, *shape):
        return 1 + self.normal(*shape, scale=0.3)

    def angles(self, width):
        return 10000.0 ** (-self.torch.arange(0, width, 2, device=self.device) / width)


def attention_weights(draw, experts, dim, dim_context, heads):
    inner = heads * cases.DIM_HEAD
    return {"null_kv": draw.normal(2, experts, heads, 1, cases.DIM_HEAD), "norm.gamma": draw.gain(experts, dim, 1),
            "context_norm.gamma": draw.gain(experts, dim_context, 1), "to_q.weight": draw.matrix(experts * inner, dim, 1),
            "to_kv.weight": draw.matrix(experts * 2 * inner, dim_context, 1), "to_out.weight": draw.matrix(experts * dim, inner, 1)}


def mixture(draw, layers, case):
    c = cases.MIXTURES[case]
    inner, experts = c["heads"] * cases.DIM_HEAD, c["options"]["num_experts"]
    w = {f"attn.{name}": t for name, t in attention_weights(draw, experts, c["dim"], c["dim_context"], c["heads"]).items()}
    w |= {"query_router.routing_token": draw.normal(experts, c["dim"]), "key_value_router.routing_token": draw.normal(experts, c["dim_context"])}
    if c["options"].get("local_attn"):
        w |= {"local_attn.norm.weight": draw.gain(c["dim"]), "local_attn.norm.bias": draw.normal(c["dim"], scale=0.3),
              "local_attn.to_qkv.weight": draw.matrix(3 * inner, c["dim"]), "local_attn.to_out.weight": draw.matrix(c["dim"], inner),
              "local_attn.attn_fn.rel_pos.inv_freq": draw.angles(cases.DIM_HEAD)}
    else:
        w["null_routed_token"] = draw.normal(1, 1, c["dim"])
    inputs = {"x": draw.normal(c["batch"], c["length"], c["dim"])}
    if c["context"]:
        inputs["context"] = draw.normal(c["batch"], c["context"], c["dim_context"])
    if c["mask"]:
        inputs["mask"] = draw.torch.ones(c["batch"], c["length"], dtype=draw.torch.bool, device=draw.device)
    init = dict(dim=c["dim"], dim_context=c["dim_context"], heads=c["heads"], **c["options"])
    subject = Subject("MixtureOfAttention", init, w, inputs, None, fix=("gather", "kv_split"), routed=True)

    def choose():
        best = lambda x, side, k: (x.double() @ w[f"{side}.routing_token"].double().T).transpose(1, 2).topk(k, dim=-1).indices
        return {"query_router": best(inputs["x"], "query_router", init["num_routed_queries"]),
                "key_value_router": best(inputs.get("context", inputs["x"]), "key_value_router", init["num_routed_key_values"])}

    subject.choose = choose
    subject.compute = lambda weights, given, math: layers.mixture(weights, init, given, subject.routes, math)
    return subject


def dense(draw, layers, case):
    c = cases.DENSE[case]
    init = dict(dim=c["dim"], heads=c["heads"], groups=1, prenorm=True)
    w = attention_weights(draw, 1, c["dim"], c["dim"], c["heads"])
    return Subject("Attention", init, w, {"x": draw.normal(1, 1, c["length"], c["dim"])},
                   lambda weights, given, math: layers.attention(weights, given["x"], c["heads"], math=math))


def attention(draw, layers, case):
    n, _, width, masked = cases.ATTENTION[case]
    inner = HEADS * width
    identity = lambda size: draw.torch.eye(size, device=draw.device)[..., None]
    w = {"null_kv": draw.normal(2, 1, HEADS, 1, width), "to_q.weight": identity(inner), "to_kv.weight": identity(2 * inner), "to_out.weight": identity(inner)}
    inputs = {"x": draw.normal(1, 1, n, inner), "context": draw.normal(1, 1, n, 2 * inner)}
    if masked:
        inputs["mask"] = draw.torch.rand(1, 1, n, generator=draw.generator, device=draw.device) < 2 / 3
    init = dict(dim=inner, dim_context=2 * inner, dim_head=width, heads=HEADS, groups=1, prenorm=False)
    return Subject("Attention", init, w, inputs,
                   lambda weights, given, math: layers.attention(weights, given["x"], HEADS, given["context"], given.get("mask"), math=math))


def local(draw, layers, case):
    n, heads, width = cases.LOCAL[case]
    init = dict(window_size=cases.WINDOW, dim=width, exact_windowsize=True)
    return Subject("LocalAttention", init, {"rel_pos.inv_freq": draw.angles(width)}, {name: draw.normal(1, heads, n, width) for name in ("q", "k", "v")},
                   lambda weights, given, math: layers.local_attention(given["q"], given["k"], given["v"], cases.WINDOW, weights["rel_pos.inv_freq"], math=math))


def project(draw, layers, case):
    rows, inside, outside = cases.PROJECT[case]
    return Subject("Linear", dict(in_features=inside, out_features=outside, bias=False), {"weight": draw.matrix(outside, inside)},
                   {"x": draw.normal(1, rows, inside)}, lambda weights, given, math: given["x"] @ weights["weight"].T)


def router(draw, layers, case):
    """Positions whose first channel is the score, and a routing token that takes it."""
    rows, length, k = cases.ROUTERS[case]
    channels = 8
    token = draw.torch.eye(1, channels, device=draw.device)
    inputs = {"x": draw.normal(rows, length, 1) * token}
    init = dict(dim=channels, num_routing_tokens=1, straight_through=False, **cases.ROUTER_OPTIONS)
    best = inputs["x"][..., 0].topk(k, dim=-1).indices.sort().values
    compute = lambda weights, given, math: layers.coordinate_descent(given["x"][..., 0], cases.fetched(length, k), **cases.ROUTER_OPTIONS).gather(-1, best)
    return Subject("CoordinateDescentRouter", init, {"routing_token": token}, inputs, compute, call=dict(num_tokens=k))


KINDS = ((cases.MIXTURES, mixture), (cases.DENSE, dense), (cases.ATTENTION, attention), (cases.LOCAL, local), (cases.PROJECT, project), (cases.ROUTERS, router))


def subject_of(draw, layers, case, dtype):
    """The subject, its numbers rounded to the dtype but held in float32, which is what files hold."""
    subject = next(make for known, make in KINDS if case in known)(draw, layers, case)
    rounded = lambda t: t.to(dtype).float() if t.is_floating_point() else t
    keep = lambda name: name.endswith("inv_freq")  # a table of float32 in every dtype
    subject.weights = {name: t if keep(name) else rounded(t) for name, t in subject.weights.items()}
    subject.inputs = {name: rounded(t) for name, t in subject.inputs.items()}
    subject.routes = subject.choose() if subject.routed else {}
    return subject


def computed(torch, subject, dtype, math=False):
    to = lambda name, t: t if not t.is_floating_point() or (name.endswith("inv_freq") and dtype != torch.float64) else t.to(dtype)
    weights, inputs = ({name: to(name, t) for name, t in tensors.items()} for tensors in (subject.weights, subject.inputs))
    return subject.compute(weights, inputs, math).double()


def run_moa(subject, dtype, options, folder):
    """What `moa run` makes of it: the output, or a router's scores in the order of positions."""
    from safetensors.torch import load_file, save_file

    tensors = {f"w.{name}": t for name, t in subject.weights.items()} | {f"in.{name}": t for name, t in subject.inputs.items()}
    tensors |= {f"route.{side}.idx": t for side, t in subject.routes.items()}
    file, out = folder / "case.safetensors", folder / "out.safetensors"
    save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, file, metadata=dict(case=json.dumps(dict(config=subject.config))))
    command = [options.tool, "run", file, "-o", out, "--device", options.device, *DTYPES[dtype], *(["--imposed-routes"] if subject.routed else [])]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=options.timeout)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    got = load_file(out)
    if "out.out" in got:
        return got["out.out"].to(options.device).double()
    order = got["route.router.idx"].reshape(got["out.scores"].shape).sort()
    return got["out.scores"].gather(-1, order.indices).to(options.device).double()


def measure(torch, layers, case, dtype, options):
    """Both largest errors, and the largest number of the truth."""
    storage = {"bf16": torch.bfloat16, "f16": torch.float16}.get(dtype, torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    draw = Draw(torch, torch.device(options.device))
    subject = subject_of(draw, layers, case, storage)
    truth = computed(torch, subject, torch.float64)
    error = lambda got: (got.reshape(truth.shape) - truth).abs().max().item()
    theirs = error(computed(torch, subject, storage, math=dtype == "tf32"))
    with tempfile.TemporaryDirectory() as folder:
        ours = error(run_moa(subject, dtype, options, Path(folder)))
    return {"moa": ours, "torch": theirs, "ratio": ours / max(theirs, 1e-300), "largest": truth.abs().max().item()}


def line(case, dtype, result):
    if "error" in result:
        return f"{case:<30} {dtype:<5} did not run: {result['error'][:110]}"
    verdict = "" if result["ratio"] <= LIMIT else f"  ABOVE {LIMIT:g}"
    return f"{case:<30} {dtype:<5} moa {result['moa']:.2e}  PyTorch {result['torch']:.2e}  ratio {result['ratio']:6.3f}  of {result['largest']:.3g}{verdict}"


def holds(result):
    return result.get("ratio", float("inf")) <= LIMIT


def dtypes_of(case, dtypes):
    """Routers are f32 whatever the storage dtype is."""
    return ["f32"] if case in cases.ROUTERS else dtypes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=listed([*cases.GPU, *cases.DENSE]), metavar="NAME,...", help="default: those of the device that are timed")
    parser.add_argument("--dtypes", type=listed(DTYPES), metavar="NAME,...", help="default: f32,bf16 on the CPU, all on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--timeout", type=float, default=120, help="seconds of one run of moa")
    parser.add_argument("--lines", action="store_true", help="JSON objects, one a line")
    options = parser.parse_args()
    options.tool = tool(parser)
    warnings.filterwarnings("ignore")

    import torch

    import torch_layers

    torch.set_num_threads(options.threads)
    cpu = options.device == "cpu"
    good = True
    with torch.inference_mode():
        for case in options.cases or (cases.CPU if cpu else cases.GPU):
            for dtype in dtypes_of(case, options.dtypes or (["f32", "bf16"] if cpu else list(DTYPES))):
                try:
                    result = measure(torch, torch_layers, case, dtype, options)
                except Exception as error:  # a case that cannot run is a line of the table
                    result = {"error": (str(error) or type(error).__name__).splitlines()[0]}
                good = good and holds(result)
                print(json.dumps({"case": case, "dtype": dtype} | result) if options.lines else line(case, dtype, result), flush=True)
                if not cpu:
                    torch.cuda.empty_cache()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
