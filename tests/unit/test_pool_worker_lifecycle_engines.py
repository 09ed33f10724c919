"""Engines are found without being imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llorch.wire.pools import Backend, Engine
from roles.pool.worker_lifecycle import engines

MACH_O = b"\xcf\xfa\xed\xfe" + bytes(60)
METAL = b"/System/Library/Frameworks/Metal.framework/Versions/A/Metal\0"
"""As in the packages for macOS of xllamacpp 2026.10 and torch 2.13."""


def test_llama_cpp_is_there_and_computes_on_the_cpu() -> None:
    assert "cpu" in engines.installed()["llamacpp"]


def test_every_engine_that_can_be_found_knows_architectures() -> None:
    assert all("llama" in engines.ARCHITECTURES[engine] for engine in engines.installed())


def test_finding_engines_imports_none_of_them() -> None:
    script = (
        "import sys; from roles.pool.worker_lifecycle.engines import installed; installed(); "
        "print([name for name in ('xllamacpp', 'torch', 'ctransformers') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("engine", "name", "holds", "accelerators"),
    [
        ("llamacpp", "xllamacpp.abi3.so", b"\x7fELF", set()),
        ("llamacpp", "xllamacpp.abi3.so", b"\x7fELF..libcudart.so.12", {"cuda"}),
        ("llamacpp", "../xllamacpp.libs/libcuda_stub-1.so", b"", {"cuda"}),
        ("llamacpp", "xllamacpp.abi3.so", MACH_O, set()),
        ("llamacpp", "xllamacpp.abi3.so", MACH_O + METAL, {"metal"}),
        ("llamacpp", ".dylibs/libggml-metal.dylib", b"\xca\xfe\xba\xbe" + METAL, {"metal"}),
        ("llamacpp", "xllamacpp.abi3.so", b"\x7fELF" + METAL, set()),
        ("torch", "lib/libtorch_cuda.so", b"\x7fELF", {"cuda"}),
        ("torch", "lib/libtorch_cpu.so", b"\x7fELF", set()),
        ("torch", "lib/libtorch_cpu.dylib", MACH_O + METAL, {"metal"}),
        ("torch", "lib/libtorch_cpu.dylib", MACH_O, set()),
        ("ctransformers", "lib/libctransformers.dylib", MACH_O + METAL, set()),
    ],
)
def test_what_an_engine_computes_on_is_told_by_its_libraries(
    tmp_path: Path, engine: Engine, name: str, holds: bytes, accelerators: set[Backend]
) -> None:
    library = tmp_path / "xllamacpp" / name
    library.parent.mkdir(parents=True)
    library.write_bytes(holds)

    assert engines.computes_on(engine, tmp_path / "xllamacpp") == {"cpu", *accelerators}
