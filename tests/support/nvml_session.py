"""NVML sessions: what the driver's library answered, as a file, and a player that answers the same to the same calls.

A session is JSON: `origin` says where its answers come from, `samples` what is answered, one entry a sample:

    {"nvmlDeviceGetCount": {"returns": 2},
     "nvmlDeviceGetName": {"0": {"returns": "NVIDIA H200"}, "1": {"error": "NVML_ERROR_GPU_IS_LOST"}}}

A call that has a device is answered by the device's index. Structures are objects, lists of structures are lists. The
last sample goes on for ever. `record_nvml.py` makes one on a machine with a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

SESSIONS = Path(__file__).with_name("nvml")
CALLS = (
    *("nvmlInit", "nvmlShutdown", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"),
    *("nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTemperature"),
    *("nvmlDeviceGetPowerUsage", "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"),
    "nvmlDeviceGetMigMode",
)
FIELDS = ("total", "used", "free", "gpu", "pid", "usedGpuMemory")


class Player:
    """Answers like `pynvml` did when a session was recorded; `next()` goes on to the next sample."""

    def __init__(self, name: str) -> None:
        self.session = json.loads((SESSIONS / f"{name}.json").read_text("utf-8"))
        self._position = 0

    def next(self) -> None:
        """Go on to the next sample."""
        self._position = min(self._position + 1, len(self.session["samples"]) - 1)

    def __getattr__(self, call: str) -> Any:  # noqa: ANN401 - a call of a module
        if call not in CALLS:
            raise AttributeError(call)

        def answer(*arguments: object) -> object:
            told = self.session["samples"][self._position].get(call, {"returns": None})
            if arguments and not {"returns", "error"} & told.keys():
                told = told[str(arguments[0])]
            if "error" in told:
                raise pynvml.NVMLError(getattr(pynvml, told["error"]))
            if call == "nvmlDeviceGetHandleByIndex":
                return arguments[0]
            return structure(told["returns"])

        return answer


class Recorder:
    """Passes calls on to `pynvml`, and keeps what it answered."""

    def __init__(self) -> None:
        self.sample: dict[str, Any] = {}
        self._indexes: dict[int, int] = {}
        self._handles: list[object] = []

    def __getattr__(self, call: str) -> Any:  # noqa: ANN401 - a call of a module
        if call not in CALLS:
            raise AttributeError(call)

        def passed_on(*arguments: object) -> object:
            index = self._index(call, arguments)
            try:
                result = getattr(pynvml, call)(*arguments)
            except pynvml.NVMLError as error:
                self._keep(call, index, {"error": error_name(error.value)})
                raise
            if call == "nvmlDeviceGetHandleByIndex":
                self._handles.append(result)  # so that its id is not used again
                self._indexes[id(result)] = int(str(arguments[0]))
                self._keep(call, index, {"returns": index})
                return result
            self._keep(call, index, {"returns": plain(result)})
            return result

        return passed_on

    def _index(self, call: str, arguments: tuple[object, ...]) -> int | None:
        if not arguments:
            return None
        return int(str(arguments[0])) if call == "nvmlDeviceGetHandleByIndex" else self._indexes[id(arguments[0])]

    def _keep(self, call: str, index: int | None, answer: dict[str, object]) -> None:
        if index is None:
            self.sample[call] = answer
        else:
            self.sample.setdefault(call, {})[str(index)] = answer


def structure(value: object) -> object:
    """Return an answer as `pynvml` gives it: structures have attributes."""
    if isinstance(value, dict):
        return SimpleNamespace(**value)
    return [structure(item) for item in value] if isinstance(value, list) else value


def plain(value: object) -> object:
    """Return an answer as a session keeps it."""
    if value is None or isinstance(value, int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return {name: getattr(value, name) for name in FIELDS if hasattr(value, name)}


def error_name(value: int) -> str:
    """Return what NVML calls an error."""
    names = (name for name in dir(pynvml) if name.startswith("NVML_ERROR_"))
    return next((name for name in names if getattr(pynvml, name) == value), "NVML_ERROR_UNKNOWN")
