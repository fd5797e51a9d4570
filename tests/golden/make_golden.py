#!/usr/bin/env python3
"""Records what the PyTorch packages compute, as the cases that `moa verify` checks.

    pip install torch mixture-of-attention colt5-attention local-attention einops safetensors
    make_golden.py --configs configs.json --out .
    make_golden.py --configs large/configs.json --out large --seed 11 --by-set

A config: {"name", "module", "init": {...}, "inputs": {name: spec}, "call": {...}, "fix": [repairs]}
Input specs: [shape]: normal numbers; {"mask": [shape], "lengths": [...]} or {"mask": [shape], "p": 0.7}; {"rotary": [n, d]}: angles.

Outputs are computed in float64 from float32 weights and inputs and stored as float32. torch.topk leaves ties open, so it is
replaced by a rule: valid positions first, then by similarity, then by index. A case is drawn anew until no selection depends
on float32's rounding, and float32 selects the same tokens. README.md says what a file holds and what the repairs are.
"""
import argparse, copy, json, math, os, warnings, zlib
from contextlib import ExitStack, contextmanager
from unittest import mock

import colt5_attention as C
import colt5_attention.transformer_block as T
import local_attention as L
import mixture_of_attention as M
import torch
from colt5_attention.coor_descent import coor_descent
from mixture_of_attention.rotary_emb import RotaryEmbedding
from safetensors.torch import save_file

CLASSES = dict(CoordinateDescentRouter=C.CoordinateDescentRouter, Attention=M.Attention, MixtureOfAttention=M.MixtureOfAttention,
               LocalAttention=L.LocalAttention, LocalMHA=L.LocalMHA)
# Its default, True, imports Triton, which on a CPU then does nothing.
EXTRA = dict(MixtureOfAttention=dict(use_triton=False))


def randomise(module, generator):
    """Every parameter matters: gains around 1, biases and null tokens that are not 0."""
    draw = lambda parameter, scale: torch.randn(parameter.shape, generator=generator) * scale
    for name, parameter in module.named_parameters():
        last = name.split('.')[-1]
        if last == 'gamma' or last in ('q_scale', 'k_scale') or name.endswith('norm.weight'):
            parameter.data = 1 + draw(parameter, .3)
        elif last == 'bias':
            parameter.data = draw(parameter, .3)
        elif last == 'weight':
            parameter.data = draw(parameter, 1.2 / parameter.shape[1] ** .5)
        else:  # routing tokens, null tokens, null keys and values
            parameter.data = draw(parameter, 1.)


def draw_inputs(config, generator):
    inputs = {}
    for name, spec in config['inputs'].items():
        if isinstance(spec, list):
            inputs[name] = torch.randn(spec, generator=generator)
        elif 'rotary' in spec:
            inputs[name] = RotaryEmbedding(spec['rotary'][1])(spec['rotary'][0])
        elif 'lengths' in spec:
            shape = spec['mask']
            inputs[name] = torch.arange(shape[-1]) < torch.tensor(spec['lengths']).reshape(*shape[:-1], 1)
        else:
            inputs[name] = torch.rand(spec['mask'], generator=generator) < spec['p']
    return inputs


def build(config, seed):
    generator = torch.Generator().manual_seed(seed * 1000003 + zlib.crc32(config['name'].encode()) % 1000003)
    module = CLASSES[config['module']](**config['init'], **EXTRA.get(config['module'], {}))
    randomise(module, generator)
    return module.eval(), draw_inputs(config, generator)


def stable_order(s, mask):
    """Positions by rank: valid ones first, similarity descending, index ascending."""
    mask = torch.ones_like(s, dtype=torch.bool) if mask is None else mask
    order = torch.argsort(torch.where(mask, -s, torch.zeros_like(s)), dim=-1, stable=True)
    return order.gather(-1, torch.argsort((~mask).gather(-1, order).int(), dim=-1, stable=True))


def own_rows(x, indices):
    """Repair `gather`. The router repeats x for its routing tokens; the package then reads other batch entries' rows."""
    batch, routers = indices.shape[0], indices.shape[1] if indices.ndim == 3 else 1
    x = x.reshape(batch, x.shape[0] // max(batch * routers, 1), routers, *x.shape[1:])[:, :, 0].flatten(1, 2)
    return x[torch.arange(batch).reshape(-1, *[1] * (indices.ndim - 1)), indices]


def own_halves(groups):
    """Repair `kv_split`. The package halves the stacked projections of all experts, not each expert's."""
    return lambda module, arguments, out: out.unflatten(1, (groups, 2, -1)).transpose(1, 2).flatten(1, 3)


@contextmanager
def instrumented(module, fix):
    """Applies the selection's rule and the repairs. Yields what each router saw: {name: {s, y, mask, idx}}."""
    seen, current, hooks = {}, {}, []
    with ExitStack() as stack:
        def patch(target, attribute, value):
            stack.enter_context(mock.patch.object(target, attribute, value))

        for name, part in module.named_modules():
            if isinstance(part, C.CoordinateDescentRouter):
                name = name or 'router'

                def record(s, *, mask=None, name=name, **options):
                    y = coor_descent(s, mask=mask, **options)
                    current.update(s=s, mask=mask)
                    seen[name] = dict(s=s, y=y, mask=mask)
                    return y

                def after(_module, _arguments, out, name=name):
                    if out.indices is not None:
                        seen[name]['idx'] = out.indices

                patch(part, 'coor_descent', record)
                hooks.append(part.register_forward_hook(after))
                original = part.route_back
                patch(part, 'route_back', lambda source, routed, indices, f=original: routed if indices is None else f(source, routed, indices))
            if isinstance(part, M.Attention) and 'kv_split' in fix:
                hooks.append(part.to_kv.register_forward_hook(own_halves(part.groups)))

        def topk(self, k, dim=-1):
            indices = stable_order(current['s'], current['mask'])[..., :k]
            values = self.gather(-1, indices)
            best = self.sort(-1, descending=True)[0][..., :k]
            assert (values.sort(-1, descending=True)[0] - best).abs().max() < 1e-6, 'no valid top-k'
            return values, indices

        patch(torch.Tensor, 'topk', topk)
        if 'gather' in fix:
            patch(T, 'batched_gather', own_rows)
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def reference(config, module, inputs, dtype):
    """Outputs by name, and what the routers saw."""
    fix = set(config.get('fix', ()))
    module = copy.deepcopy(module).to(dtype)
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad(), instrumented(module, fix) as seen:
        arguments = dict(inputs)
        if 'q_rotary_emb' in arguments:
            arguments['rotary_emb'] = arguments.pop('q_rotary_emb'), arguments.pop('k_rotary_emb')
        out = module(**arguments, **config.get('call', {}))
        if 'local_unrouted' in fix:  # the package drops the local branch here
            experts = module.attn.groups
            out = (out * experts + module.local_attn(inputs['x'], mask=inputs.get('mask'))) / (experts + 1)
            if 'mask' in inputs:
                out = out.masked_fill(~inputs['mask'][..., None], 0.)
    if isinstance(out, T.RouterReturn):
        return {name: value for name, value in zip(('indices', 'scores', 'tokens', 'mask'), out) if value is not None}, seen
    return dict(out=out), seen


def selection_info(seen):
    """By router: is there a tie at the k-th place; the smallest gaps of s there, and among the selected."""
    info = {}
    for name, router in seen.items():
        s, y, mask = router['s'].double(), router['y'], router['mask']
        order = stable_order(s, mask)
        k = router['idx'].numel() // s.shape[0]
        s, y = s.gather(-1, order), y.gather(-1, order)
        valid = torch.ones_like(s, dtype=torch.bool) if mask is None else mask.gather(-1, order)
        gap = torch.where(valid[:, 1:], s[:, :-1] - s[:, 1:], torch.full_like(s[:, 1:], float('inf')))
        info[name] = dict(k=k, tie=bool(((y[:, k - 1] == y[:, k]) & valid[:, k]).any()), boundary_gap=float(gap[:, k - 1].min()),
                          order_gap=float(gap[:, :k].min()), saturated=int((y == 1).sum(-1).max()))
    return info


def make_case(config, seed, by_set, tries=200, min_gap=2e-4):
    """by_set: only the selected set must be safe from rounding, not the order in it; enough where the order cannot matter."""
    gap, same = ('boundary_gap', lambda a, b: torch.equal(a.sort(-1)[0], b.sort(-1)[0])) if by_set else ('order_gap', torch.equal)
    for draw in range(tries):
        module, inputs = build(config, seed + 7919 * draw)
        out, seen = reference(config, module, inputs, torch.float64)
        info = selection_info(seen)
        if any(router[gap] < min_gap for router in info.values()):
            continue
        out32, seen32 = reference(config, module, inputs, torch.float32)
        if all(same(seen[name]['idx'], seen32[name]['idx']) for name in seen):
            break
    else:
        raise RuntimeError('no well-separated draw for ' + config['name'])
    error = max(float((out[name].double() - out32[name].double()).abs().max()) if out[name].is_floating_point() else 0. for name in out)
    stored = lambda value: (value.float() if value.is_floating_point() else value).contiguous().clone()
    tensors = {f'w.{name}': stored(value) for name, value in module.state_dict().items()}
    tensors |= {f'in.{name}': stored(value) for name, value in inputs.items()} | {f'out.{name}': stored(value) for name, value in out.items()}
    for name, router in seen.items():
        best = stable_order(router['s'], router['mask'])[:, :info[name]['k']]
        tensors |= {f'route.{name}.s': stored(router['s']), f'route.{name}.y': stored(router['y']), f'route.{name}.idx': stored(router['idx']),
                    f'route.{name}.selected_y': stored(router['y'].gather(-1, best))}
        info[name] = {key: None if isinstance(value, float) and math.isinf(value) else value for key, value in info[name].items()}
    return tensors, dict(routers=info, fp32_err=error, seed=seed, draw=draw)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--configs', required=True)
    parser.add_argument('--out', required=True)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--by-set', action='store_true', help='let rounding change the order of the selected tokens')
    arguments = parser.parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.makedirs(arguments.out, exist_ok=True)
    with open(arguments.configs, encoding='utf-8') as file:
        configs = json.load(file)
    for config in configs:
        tensors, info = make_case(config, arguments.seed, arguments.by_set)
        path = os.path.join(arguments.out, config['name'] + '.safetensors')
        save_file(tensors, path, metadata=dict(case=json.dumps(dict(config=config, info=info))))
        print(f"{config['name']:40s} {os.path.getsize(path):8d} bytes  error of float32 {info['fp32_err']:.1e}  draw {info['draw']}", flush=True)


if __name__ == '__main__':
    main()
