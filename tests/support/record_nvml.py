"""Records an NVML session on a machine with an NVIDIA driver, for the tests of the pool's inventory.

python -m tests.support.record_nvml h200 --samples 3 --about "8x H200, driver 580.65"
"""

from __future__ import annotations

import argparse
import json
import time

import pynvml

from roles.pool.gpu_inventory.nvml import Nvml
from tests.support.nvml_session import SESSIONS, Recorder

PAUSE_S = 1.0


def main() -> None:
    """Read all GPUs as the pool does, and write down what the driver answered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="what the session is called")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--about", default="", help="the machine, in words")
    given = parser.parse_args()
    recorder = Recorder()
    nvml = Nvml(recorder)
    samples = []
    for _ in range(given.samples):
        devices = nvml.read()
        samples.append(recorder.sample)
        recorder.sample = {}
        print(f"{len(devices)} devices")
        time.sleep(PAUSE_S)
    nvml.close()
    try:
        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        driver = str(error)
    session = {"origin": "hardware", "about": given.about, "driver": driver, "samples": samples}
    path = SESSIONS / f"{given.name}.json"
    path.write_text(json.dumps(session, indent=1) + "\n", "utf-8")
    print(path)


if __name__ == "__main__":
    main()
