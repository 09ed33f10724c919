"""Engines are found without being imported."""

from __future__ import annotations

import subprocess
import sys

from roles.pool.worker_lifecycle import engines


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
