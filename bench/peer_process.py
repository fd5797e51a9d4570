"""The process of peers_gpu.py as its parent sees it: results one by one, and another process where one hangs or dies."""

import json
import queue
import subprocess
import sys
import threading
import time

import peers_gpu
from measuring import Failure


class PeerProcess:
    """command: another program of the same manner, for tests."""

    def __init__(self, options, command=None):
        self.command = command or [sys.executable, peers_gpu.__file__, "--device", options.device, "--min-runs", str(options.min_runs), "--min-time", str(options.min_time)]
        self.options = options
        self.machine = {}

    def start(self, wanted):
        # What the process says on standard error goes where ours does, if asked for.
        errors = None if self.options.verbose else subprocess.DEVNULL
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.process.stdin.write(json.dumps(wanted))
        self.process.stdin.close()
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.process.stdout, self.lines), daemon=True).start()

    @staticmethod
    def read(stream, lines):
        for line in stream:
            lines.put(json.loads(line))
        lines.put(None)

    def stop(self):
        self.process.kill()
        self.process.wait()

    def results(self, wanted, deadline=None):
        """Yields (case, peer, result) for what is wanted, in order; what the deadline (of time.monotonic) leaves no time for is left out."""
        wanted = list(wanted)
        while wanted and (deadline is None or time.monotonic() < deadline):
            self.start(wanted)
            done, begun = 0, None
            try:
                while done < len(wanted):
                    limit = self.options.compile_timeout if begun and "compiled" in begun[1] else self.options.peer_timeout
                    left = limit if begun else self.options.start_timeout
                    left = left if deadline is None else min(left, deadline - time.monotonic())
                    try:
                        line = self.lines.get(timeout=max(0.0, left))
                    except queue.Empty:
                        if deadline is not None and time.monotonic() >= deadline:
                            return
                        if begun is None:
                            raise Failure(f"PyTorch did not start in {left:g} s") from None
                        yield (*wanted[done], {"error": f"took more than {limit:g} s"})
                        done += 1
                        break
                    if line is None:  # it ended: by itself after an error that spoils the process, or killed
                        if begun is not None:
                            yield (*wanted[done], {"error": f"the process ended with exit code {self.process.wait()}"})
                            done += 1
                        elif done == 0:
                            raise Failure(f"{self.command[1]} ended with exit code {self.process.wait()} (--verbose shows why)")
                        break
                    if "machine" in line:
                        self.machine = line["machine"]
                    elif "begin" in line:
                        begun = line["begin"]
                    else:
                        yield (*line["peer"], line["result"])
                        done, begun = done + 1, None
            finally:
                self.stop()
            wanted = wanted[done:]
