"""The layers in plain PyTorch operations, in any dtype and with given routes: in float64 they are the truth that accuracy.py
measures errors against, in the other dtypes the errors that a PyTorch program makes.

`python torch_layers.py tests/golden/*.safetensors tests/golden/large/*.safetensors` checks them, in float64, against what was
recorded of the packages.
"""

import json
import sys
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

CHUNK_BYTES = {"cpu": 1 << 29, "cuda": 1 << 33}  # of attention weights in float64, where no fused kernel is


def attend(q, k, v, mask=None, math=False):
    """scaled_dot_product_attention as PyTorch chooses it. math: its unfused form, the only one with products of tf32."""
    if q.dtype == torch.float64:  # by queries: the whole matrix would not fit
        step = max(1, CHUNK_BYTES[q.device.type] // (8 * k[..., 0].numel()))
        masks = (None,) * -(-q.shape[-2] // step) if mask is None else mask.split(step, dim=-2)
        return torch.cat([F.scaled_dot_product_attention(rows, k, v, attn_mask=m) for rows, m in zip(q.split(step, dim=-2), masks)], dim=-2)
    with sdpa_kernel(SDPBackend.MATH) if math else nullcontext():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def split_heads(t, heads):
    return t.unflatten(-1, (heads, -1)).transpose(-2, -3)


def rms_norm(x, gamma):
    """Of [b, e, n, c] with gains [e, c, 1]."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-24) * gamma.squeeze(-1)[:, None]


def attention(w, x, heads, context=None, mask=None, values_scale=None, output_scale=None, math=False):
    """The package's Attention: x [b, e, n, c], context [b, e, m, c], mask [b, e, m], scales [b, e, m] and [b, e, n]."""
    experts = x.shape[1]
    grouped = lambda t, weight: t @ weight.reshape(experts, -1, weight.shape[1]).transpose(-1, -2)
    context = x if context is None else context
    if "norm.gamma" in w:
        x, context = rms_norm(x, w["norm.gamma"]), rms_norm(context, w["context_norm.gamma"])
    q, (k, v) = grouped(x, w["to_q.weight"]), grouped(context, w["to_kv.weight"]).chunk(2, dim=-1)
    q, k, v = (split_heads(t, heads) for t in (q, k, v))
    if values_scale is not None:
        v = v * values_scale[:, :, None, :, None]
    null_k, null_v = (t.expand(x.shape[0], *t.shape) for t in w["null_kv"])
    k, v = torch.cat((null_k, k), dim=-2), torch.cat((null_v, v), dim=-2)
    if mask is not None:
        mask = F.pad(mask, (1, 0), value=True)[:, :, None, None, :].expand(-1, -1, heads, q.shape[-2], -1)
    # Entries and experts are one axis: fused kernels take four axes.
    q, k, v, mask = (t if t is None else t.flatten(0, 1) for t in (q, k, v, mask))
    out = attend(q, k, v, mask, math).unflatten(0, (-1, experts)).transpose(2, 3).flatten(3)
    out = grouped(out, w["to_out.weight"])
    return out if output_scale is None else out * output_scale[..., None]


def turned(t, angles):
    """Rotary positions, in float32 at least."""
    wide = t.to(angles.dtype)
    half = wide.shape[-1] // 2
    return (wide * angles.cos() + torch.cat((-wide[..., half:], wide[..., :half]), dim=-1) * angles.sin()).to(t.dtype)


def around(t, before=0):
    """Windows [.., w, n, ..] with the neighbours on both sides: [.., w, 3 n, ..]."""
    padded = F.pad(t, (0, 0) * (t.ndim - before - 1) + (1, 1))
    return torch.cat([padded.narrow(before, i, t.shape[before]) for i in range(3)], dim=before + 1)


def local_attention(q, k, v, window, inv_freq=None, mask=None, math=False):
    """Exact windows to both sides: q, k, v [b, h, n, d], mask [b, n]. Positions turn by their place in the three windows."""
    n = q.shape[-2]
    q, k, v = (F.pad(t, (0, 0, 0, -n % window)).unflatten(-2, (-1, window)) for t in (q, k, v))
    places = torch.arange(q.shape[-3] * window, device=q.device)
    valid = (places < n).expand(q.shape[0], -1) if mask is None else F.pad(mask, (0, -n % window))
    k, v = around(k, 2), around(v, 2)
    if inv_freq is not None:
        angles = torch.outer(torch.arange(3 * window, device=q.device), inv_freq).repeat(1, 2)
        q, k = turned(q, angles[-window:]), turned(k, angles)
    i, j = places.reshape(-1, window)[:, :, None], places.reshape(-1, window)
    j = (j[:, :1] - window + torch.arange(3 * window, device=q.device))[:, None]
    visible = around(valid.unflatten(-1, (-1, window)), 1)[:, :, None] & ((i - j).abs() <= window)
    visible = visible[:, None].expand(-1, q.shape[1], -1, -1, -1)
    q, k, v, visible = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v, visible))  # windows are entries
    out = attend(q, k, v, visible, math).unflatten(0, (-1, places.numel() // window)).transpose(1, 2)
    return out.flatten(2, 3)[:, :, :n]


def local_mha(w, x, heads, window, mask=None, math=False):
    x = F.layer_norm(x, x.shape[-1:], w["norm.weight"], w["norm.bias"])
    q, k, v = (split_heads(t, heads) for t in F.linear(x, w["to_qkv.weight"]).chunk(3, dim=-1))
    out = local_attention(q, k, v, window, w["attn_fn.rel_pos.inv_freq"], mask, math)
    return F.linear(out.transpose(1, 2).flatten(2), w["to_out.weight"])


def part(w, prefix):
    return {name[len(prefix):]: tensor for name, tensor in w.items() if name.startswith(prefix)}


def gathered(x, routes):
    """Rows of x [b, n, ..] at routes [b, e, k]."""
    return x[torch.arange(x.shape[0], device=x.device)[:, None, None], routes]


def mixture(w, init, inputs, routes, math=False):
    """MixtureOfAttention with both sides routed as given: straight-through scores are 1, and 0 where masked."""
    x, mask = inputs["x"], inputs.get("mask")
    context, context_mask = (inputs["context"], inputs.get("context_mask")) if "context" in inputs else (x, mask)
    queries, keys = routes["query_router"], routes["key_value_router"]
    query_mask, key_mask = (None if m is None else gathered(m, r) for m, r in ((mask, queries), (context_mask, keys)))
    scores = lambda m: None if m is None else m.to(x.dtype)
    routed = attention(part(w, "attn."), gathered(x, queries), init.get("heads", 8), gathered(context, keys), key_mask,
                       scores(key_mask), scores(query_mask), math)
    flat = queries.flatten(1)
    out = torch.zeros_like(x).scatter_add(1, flat[..., None].expand(-1, -1, x.shape[-1]), routed.flatten(1, 2))
    ones = torch.ones_like(flat, dtype=x.dtype) if query_mask is None else scores(query_mask).flatten(1)
    counts = torch.zeros_like(x[..., 0]).scatter_add(1, flat, ones)[..., None]
    if init.get("local_attn"):
        out = out + local_mha(part(w, "local_attn."), x, init.get("heads", 8), init["local_attn_window_size"], mask, math)
    out = out / (counts + bool(init.get("local_attn"))).clamp(min=1e-5) if init.get("average_routed") else out
    if not init.get("local_attn"):
        out = torch.where(counts == 0, w["null_routed_token"], out)
    return out if mask is None else out.masked_fill(~mask[..., None], 0)


def coordinate_descent(s, k, n_iters=20, eps=0.03, eps_init=4.0, eps_decay=0.7):
    """The soft scores of rows of similarities."""
    b, log_k, now = -s, torch.full_like(s[..., :1], k).log(), max(eps_init, eps)
    for _ in range(n_iters):
        a = now * (log_k - ((s + b) / now).logsumexp(-1, keepdim=True))
        b = -F.relu(s + a)
        now = max(now * eps_decay, eps)
    return ((s + a + b) / now).exp()


# --- against the recorded cases ---------------------------------------------------------------------------------------

KNOWN = {"dim", "dim_context", "num_routed_queries", "num_routed_key_values", "num_experts", "dim_head", "heads", "local_attn",
         "local_attn_window_size", "average_routed", "cosine_sim_routing", "use_triton"}


def recorded_error(path):
    """The largest error of a recorded mixture; None for a case that is no mixture of the kind above."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["case"])["config"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    several = config["init"].get("num_experts", 2) > 1
    both = all(f"route.{side}.idx" in tensors for side in ("query_router", "key_value_router"))
    known = config["module"] == "MixtureOfAttention" and set(config["init"]) <= KNOWN and both and not config.get("call")
    if not known or "in.rotary_emb" in tensors or (several and not {"gather", "kv_split"} <= set(config.get("fix", ()))):
        return None
    wide = lambda t: t.double() if t.is_floating_point() else t
    w, inputs = ({name: wide(t) for name, t in part(tensors, prefix).items()} for prefix in ("w.", "in."))
    routes = {side: tensors[f"route.{side}.idx"].reshape(inputs["x"].shape[0], config["init"].get("num_experts", 2), -1)
              for side in ("query_router", "key_value_router")}
    return (mixture(w, config["init"], inputs, routes) - tensors["out.out"]).abs().max().item()


def main():
    worst = checked = 0
    for path in sys.argv[1:]:
        error = recorded_error(path)
        if error is not None:
            print(f"{path}: largest error {error:.1e}")
            checked, worst = checked + 1, max(worst, error)
    print(f"{checked} case(s) checked, largest error {worst:.1e}")
    return 0 if checked and worst < 1e-5 else 1  # recordings are rounded to float32


if __name__ == "__main__":
    sys.exit(main())
