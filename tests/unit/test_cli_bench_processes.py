"""What reaches a role that is started to be measured, and what is told of one that does not start."""

from __future__ import annotations

from llorch.cli.bench_model import flags
from llorch.cli.bench_processes import environment, why
from llorch.cli.bench_submissions import answer


def test_settings_of_the_user_do_not_reach_it_but_for_those_of_a_worker() -> None:
    present = {
        "PATH": "/bin",
        "LLORCH_CONFIG": "/home/ann/llorch.toml",
        "LLORCH_API_TOKEN": "secret",
        "LLORCH_ORCHESTRATOR_PORT": "1",
        "LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1",
        "LLORCH_WORKER_THREADS": "1",
        "LLORCH_WORKER_TOKEN": "another",
    }

    assert environment(present, keep={"LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1"}) == {
        "PATH": "/bin",
        "LLORCH_ORCHESTRATOR_QUEUE_CAPACITY": "-1",
        "LLORCH_WORKER_THREADS": "1",
    }
    assert environment(present, keep={"LLORCH_WORKER_TOKEN": "another"})["LLORCH_WORKER_TOKEN"] == "another"


def test_its_complaint_is_why_it_ended_else_its_last_line() -> None:
    assert why('{"event": "loading"}\nllorch: there is no model file\n{"event": "bye"}\n') == "there is no model file"
    assert why("Traceback\nMemoryError\n\n") == "MemoryError"
    assert why("") == "it does not say why"


def test_only_flags_that_were_given_are_passed_on() -> None:
    assert flags({"backend": "cpu", "device": None}) == ["--backend", "cpu"]


def test_the_head_of_an_answer_tells_its_status_and_length() -> None:
    assert answer(b"HTTP/1.1 202 Accepted\r\nServer: x\r\ncontent-length: 17\r\n\r\n") == (202, 17)
    assert answer(b"HTTP/1.1 204 No Content\r\n\r\n") == (204, 0)
