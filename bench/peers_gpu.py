"""PyTorch on a GPU: reads a JSON list of [case, peer] from standard input, times each in turn, and prints a JSON object a line:
first the machine, then for each peer that it begins, and its result.

Times are the GPU's own, by events around batches of calls, so that a peer that the host cannot feed fast enough shows the time
that its user waits. A peer of mode `graph` is captured in a CUDA graph and replayed, as this library's layers are. Memory is what
the allocator gives: `layer_mb` for the layer and its inputs, `run_mb` the most beyond that in a run.
"""

import argparse
import gc
import json
import os
import statistics
import sys
import warnings

import peers

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


def replayed(torch, run):
    """The run as a replay of a CUDA graph, after the warm-up on another stream that capture needs."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay(out=out):  # whose memory the graph writes
        graph.replay()

    return replay


def run_peer(torch, peer, options):
    before = torch.cuda.memory_allocated()
    run = peer.prepare()
    made = torch.cuda.memory_allocated()
    if peer.mode == "compiled":
        run = torch.compile(run)
    run()
    held = torch.cuda.memory_allocated()  # with the libraries' workspaces, which stay
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    memory = {"layer_mb": (made - before) / 2 ** 20, "run_mb": (torch.cuda.max_memory_allocated() - held) / 2 ** 20}
    return memory | measure(torch, replayed(torch, run) if peer.mode == "graph" else run, options.min_runs, options.min_time * 1e3)


def copy_gbps(torch, options):
    a, b = (torch.zeros(1 << 28, device=options.device) for _ in range(2))
    return 2 * a.numel() * 4 / measure(torch, lambda: b.copy_(a), options.min_runs, 50)["median_ms"] / 1e6


def machine(torch, options):
    return {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "copy_gbps": copy_gbps(torch, options)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.1)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # packages and compilers print what they find
    tell = lambda **what: print(json.dumps(what), file=answer, flush=True)

    import torch

    torch.cuda.set_device(options.device)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with torch.inference_mode():
        tell(machine=machine(torch, options))
        for case, name in json.load(sys.stdin):
            tell(begin=[case, name])
            try:
                result = run_peer(torch, peers.gpu_peers(case)[name], options)
            except Exception as error:  # a peer that cannot run is a line of the table
                result = {"error": (str(error) or type(error).__name__).splitlines()[0]}
            tell(peer=[case, name], result=result)
            if "CUDA error" in result.get("error", "") or "captur" in result.get("error", ""):
                return  # nothing runs in this process any more: the next one goes on
            if "compiled" in name:
                torch._dynamo.reset()
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
