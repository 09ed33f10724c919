"""A worker program for tests of the pool: a real process that speaks to it, and runs no model.

Run as `python child_worker.py MODE WORKER_ID MODEL_REF CALLBACK_URL`, with its token in the environment. The mode says
what it does wrong: `good`, `silent` (never ready), `crash` (ends while loading), `impostor` (calls back with another
token), `deaf` (does not answer once it is ready), `stubborn` (will not end, and has a child that will not either),
`mute` (is ready at SIGUSR1 and calls nobody), `future` (speaks version 2), `working` (has a job until SIGUSR1, and
says when it is asked meanwhile), `patient` (does not end while its jobs may take for ever).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOREVER = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); threading.Event().wait()"
MODE, WORKER_ID, MODEL_REF, CALLBACK_URL = sys.argv[1:5]
TOKEN = os.environ["LLORCH_WORKER_TOKEN"]
is_ready = threading.Event()
is_idle = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if MODE == "working" and is_ready.is_set() and not is_idle.is_set():
            print("asked while it works", flush=True)
        deaf = MODE == "deaf" and is_ready.is_set()
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        self.answer(500 if deaf else 200 if allowed else 401, health())

    def do_POST(self) -> None:
        if MODE == "stubborn":
            self.answer(500, {})
            return
        print(f"told {self.path}", flush=True)
        self.answer(200, {"status": "draining"})
        if MODE == "patient" and self.path.endswith("=inf"):
            return
        threading.Thread(target=self.server.shutdown).start()
        if MODE == "working":
            os.kill(os.getpid(), signal.SIGUSR1)

    def answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def health() -> dict[str, object]:
    """Return what a worker says of itself."""
    return {
        "status": "ready" if is_ready.is_set() else "starting",
        "worker_id": WORKER_ID,
        "model": "m",
        "model_ref": MODEL_REF,
        "resident": True,
        "progress": 100.0 if is_ready.is_set() else 50.0,
        "quant_kind": "F32",
        "vocab_size": 1,
        "context_length": 64,
        "memory_bytes": 1000,
        "slots": 2,
        "slots_busy": 1 if is_ready.is_set() and not is_idle.is_set() else 0,
        "tokens_per_second": 0.0,
        "uptime_s": 0.0,
        "capabilities": ["text-gen"],
        "protocol": 2 if MODE == "future" else 1,
        "engine": "llamacpp",
        "backend": "cpu",
    }


def call_back(uri: str) -> None:
    """Tell the pool that the model is loaded."""
    body = {
        "worker_id": WORKER_ID,
        "model_ref": MODEL_REF,
        "uri": uri,
        "memory_bytes": 1000,
        "memory_architecture": "system",
        "backend": "cpu",
        "engine": "llamacpp",
        "capabilities": ["text-gen"],
        "slots": 2,
        "context_length": 64,
        "protocol": 2 if MODE == "future" else 1,
    }
    request = urllib.request.Request(
        f"{CALLBACK_URL}/v2/internal/workers/ready",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {'wrong' if MODE == 'impostor' else TOKEN}"},
    )
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        with error:
            print(f"the pool refused: {error.code}", file=sys.stderr, flush=True)
        sys.exit(1)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    uri = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever).start()
    print(uri, flush=True)
    if MODE == "crash":
        print(json.dumps({"event": "failed", "error": f"cannot load {MODEL_REF}"}), file=sys.stderr, flush=True)
        os._exit(3)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", FOREVER])
        print(f"child {child.pid}", flush=True)
    if MODE == "mute":
        print("waits", flush=True)
        signal.sigwait({signal.SIGUSR1})
        is_ready.set()
    elif MODE != "silent":
        with contextlib.ExitStack() as undone:
            undone.callback(server.shutdown)
            call_back(uri)
            undone.pop_all()
        is_ready.set()
    if MODE == "working":
        signal.sigwait({signal.SIGUSR1})
        is_idle.set()


main()
