"""Which engine a worker gets, and what is refused before anything starts."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from llorch import errors
from llorch.models import ServerRef
from llorch.settings import Server
from llorch.wire.engine_options import EngineOptions
from roles.worker.backend.choice import NEEDED, check_options, served
from roles.worker.options import WorkerOptions


def test_an_engine_that_is_not_built_in_is_refused_with_those_that_are() -> None:
    with pytest.raises(errors.BackendUnavailable, match=", ".join(NEEDED)):
        check_options(WorkerOptions(Path("model.gguf"), engine="unheard-of"))  # type: ignore[arg-type]


def test_a_split_that_names_no_devices_is_refused() -> None:
    with pytest.raises(errors.InvalidConfiguration, match="--split"):
        check_options(WorkerOptions(Path("model.gguf"), split="everywhere"))


@pytest.mark.parametrize("engine", NEEDED)
def test_what_is_installed_is_taken_and_what_is_not_says_how_to_install_it(engine: str) -> None:
    ref, server = ("server:gpu/m", Server(url="http://h/v1")) if engine == "openai" else ("", None)
    options = WorkerOptions(Path("model"), model_ref=ref, server=server, engine=engine)  # type: ignore[arg-type]
    missing = [package for package in NEEDED[engine] if find_spec(package) is None]

    if not missing:
        check_options(options)
    else:
        with pytest.raises(errors.BackendUnavailable, match=rf"lacks {', '.join(missing)}.*\.\[{engine}\]"):
            check_options(options)


def test_an_engine_that_computes_on_the_cpu_alone_says_so() -> None:
    if all(find_spec(package) for package in NEEDED["ctransformers"]):
        with pytest.raises(errors.BackendUnavailable, match="on the CPU alone"):
            check_options(WorkerOptions(Path("model.bin"), engine="ctransformers", backend="cuda"))


def test_options_of_llamacpp_are_refused_for_another_engine() -> None:
    options = EngineOptions(kv_type="q8_0", lora=("a.gguf",))

    with pytest.raises(errors.BackendUnavailable, match="the engine torch does not have kv_type, lora"):
        check_options(WorkerOptions(Path("model.gguf"), engine="torch", engine_options=options))
    check_options(WorkerOptions(Path("model.gguf"), engine_options=options))


def test_a_server_is_taken_for_its_own_models_where_it_is_configured() -> None:
    server = Server(url="http://h/v1")
    known = WorkerOptions(Path("x"), model_ref="server:gpu/org/m", engine="openai", server=server)

    assert served(known) == (ServerRef("gpu", "org/m"), server)
    with pytest.raises(errors.InvalidConfiguration, match=r"no \[pool.servers.gpu\]"):
        check_options(replace(known, server=None))
    for ref in ("file:/m.gguf", "m"):
        with pytest.raises(errors.InvalidConfiguration, match="server:NAME/MODEL"):
            check_options(replace(known, model_ref=ref))
