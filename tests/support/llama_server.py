"""llama.cpp's own server on a TCP port: a server that is not llorch's. Run as a program, it takes the port and more.

`python -m tests.support.llama_server --port 8001 --model FILE`: the key that it asks for is the one in LLAMA_API_KEY,
as `llama-server` has it; without one it asks for none.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading


def main(argv: list[str]) -> int:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--alias", default="")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    told = parser.parse_args(argv)
    import xllamacpp

    p = xllamacpp.CommonParams()
    p.model.path = told.model
    p.hostnames = ["127.0.0.1"]
    p.port = told.port
    if "LLAMA_API_KEY" in os.environ:
        p.api_keys = [os.environ["LLAMA_API_KEY"]]
    if told.alias:
        p.model_alias = {told.alias}
    p.ui = False
    p.endpoint_slots = True
    p.n_parallel = told.slots
    p.n_ctx = told.ctx * told.slots
    p.n_batch = p.n_ubatch = told.batch
    p.ctx_shift = False
    p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
    p.verbosity = 3
    server = xllamacpp.Server(p)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Event().wait()
    del server
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
