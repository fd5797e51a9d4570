"""The cases of workloads/layer_cases.cpp, by name, for PyTorch: shapes, and arguments of the package's layers."""

DIM_HEAD = 64
WINDOW = 128


def mixture(batch, length, routed, experts, dim=512, heads=8, local=False, **more):
    options = dict(num_routed_queries=routed, num_routed_key_values=routed, num_experts=experts)
    options |= dict(local_attn=True, local_attn_window_size=WINDOW) if local else {}
    return dict(batch=batch, length=length, dim=dim, heads=heads, context=None, dim_context=dim, mask=False, options=options) | more


# Arguments of MixtureOfAttention besides dim, heads and dim_head; lengths of x and context; whether there is a mask.
MIXTURES = {
    "moa_cross_readme": mixture(1, 1024, 16, 2, context=512, dim_context=256, mask=True)
    | dict(options=dict(num_routed_queries=16, num_routed_key_values=32, num_experts=2)),
    "moa_self_4096_e4": mixture(1, 4096, 1024, 4, local=True),
    "moa_self_4x4096_e4": mixture(4, 4096, 1024, 4, local=True),
    "moa_self_8192_e2": mixture(1, 8192, 4096, 2),
    "moa_self_2x8192_e2": mixture(2, 8192, 4096, 2),
    "moa_self_32768_e4": mixture(1, 32768, 4096, 4, dim=1024, heads=16),
}
# Layers in which every token attends to every token: arguments as of a mixture, without its options.
DENSE = {f"dense_{length}": dict(batch=1, length=length, dim=512, heads=8, context=None, dim_context=512, mask=False) for length in (1024, 4096, 8192)}
# Tokens, heads, width of a head, whether there are a mask over keys and a null key.
ATTENTION = {f"attention_{n}x{h}_d{d}": (n, h, d, False) for n, h in ((1024, 128), (4096, 32), (16384, 16)) for d in (64, 128)}
ATTENTION |= {f"attention_4096x32_d{d}_masked": (4096, 32, d, True) for d in (64, 128)}
# Tokens, heads, width of a head.
LOCAL = {"local_16384x8_d64": (16384, 8, 64)}
# Rows, channels in, channels out.
PROJECT = {f"project_{m}x{i}x{o}": (m, i, o) for m, i, o in ((4096, 512, 512), (16384, 512, 1536), (4096, 1024, 3072), (8192, 8192, 8192))}
# Rows of scores, their length, how many are selected.
ROUTERS = {"router_8x4096_k512": (8, 4096, 512), "router_8x32768_k4096": (8, 32768, 4096)}

CPU = ["moa_cross_readme", "moa_self_4096_e4", "moa_self_8192_e2", *DENSE, *LOCAL, *ROUTERS]
GPU = [*MIXTURES, *ATTENTION, *LOCAL, *PROJECT, *ROUTERS]

# Options of the package's routers: its defaults.
ROUTER_OPTIONS = dict(n_iters=20, eps=0.03, eps_init=4.0, eps_decay=0.7)


def layer_of(case):
    """The shapes of a mixture or a dense layer."""
    return MIXTURES.get(case) or DENSE[case]


def fetched(length, k):
    """What the package's routers ask coordinate descent for."""
    return min(k * 9 / 8, length)
