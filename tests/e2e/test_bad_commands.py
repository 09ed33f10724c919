"""Wrong use of real commands: each is told in one clear line, with the exit status that says whose fault it is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.e2e.processes import Role, complaint, finish, orchestrator_role, program, run, until, whole_system

MODEL = str(Path("llorch/assets/haiku.gguf").resolve())
NOT_UTF8 = os.fsdecode(b"caf\xe9")
HAIKU = ("--model", "haiku", "--prompt", "x")


@pytest.mark.parametrize("role", ["orchestrator", "pool", "worker", "all"])
async def test_a_taken_port_ends_every_role_at_once(role: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        where = ("--model", MODEL) if role == "worker" else ("--data-dir", str(tmp_path))

        finished = await run("serve", role, "--port", port, *where)

    told = f"127.0.0.1:{port} is taken by another process; stop it or choose another --port"
    assert (finished.status, finished.stdout, complaint(finished.stderr)) == (2, "", told)


@pytest.mark.parametrize(
    ("role", "host"), [("orchestrator", "::"), ("pool", "0.0.0.0"), ("worker", "10.255.255.1"), ("all", "0.0.0.0")]
)
async def test_no_role_listens_where_others_reach_it_without_a_token(role: str, host: str, tmp_path: Path) -> None:
    where = ("--model", MODEL) if role == "worker" else ("--data-dir", str(tmp_path / "data"))

    finished = await run("serve", role, "--port", "0", "--host", host, *where)

    assert (finished.status, finished.stdout) == (2, "")
    assert complaint(finished.stderr).startswith(f"refusing to listen on {host} without a token")


async def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    token = {"LLORCH_API_TOKEN": "a-token-of-the-tests"}
    where = ("--host", "192.0.2.1", "--port", "0", "--data-dir", str(tmp_path))

    finished = await run("serve", "orchestrator", *where, env=token)

    assert finished.status == 2
    assert complaint(finished.stderr).startswith("cannot listen on 192.0.2.1:0: ")


@pytest.mark.parametrize("role", ["orchestrator", "pool", "all"])
async def test_a_data_directory_below_a_file_is_told(role: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    finished = await run("serve", role, "--port", "0", "--data-dir", str(tmp_path / "file" / "data"))

    assert (finished.status, finished.stdout) == (2, "")
    assert "Not a directory; choose another" in complaint(finished.stderr)


def can_mount() -> bool:
    """Tell whether this process may have mounts of its own."""
    command = ["unshare", "--mount", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(
    not can_mount(), reason="a read-only file system takes a mount namespace, which takes root on Linux"
)
@pytest.mark.parametrize("role", ["orchestrator", "pool"])
async def test_a_read_only_data_directory_is_told(role: str, tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o ro,size=1m none '{tmp_path}' && exec \"$@\""
    command = ("unshare", "--mount", "sh", "-c", mount, "sh", *program())

    status, out, err = await finish(*command, "serve", role, "--port", "0", "--data-dir", str(tmp_path))

    assert (status, out) == (2, "")
    assert "ead-only file system; choose another" in complaint(err)


LIST, SERVE = ("jobs", "list"), ("serve", "orchestrator")


@pytest.mark.parametrize(
    ("command", "text", "told"),
    [
        (SERVE, "[orchestrator]\nport = 99999", "[orchestrator] port: found 99999, expected `int` <= 65535"),
        (LIST, "[orchestrator]\nport = 'x'", "[orchestrator] port: found 'x', expected `int`"),
        (SERVE, "[orchestator]\nport = 1", "[orchestator]: unknown section; did you mean orchestrator?"),
        (LIST, "[orchestrator\nport = 1", "not TOML: "),
        (SERVE, "[aliases]\nmine = 'some/model'", "[aliases] mine: found 'some/model', expected file:/absolute/path"),
        (LIST, "orchestrator = 5", "[orchestrator]: found 5, expected a section"),
    ],
)
async def test_a_wrong_configuration_names_file_and_key(
    command: Sequence[str], text: str, told: str, tmp_path: Path
) -> None:
    file = tmp_path / "llorch.toml"
    file.write_text(text)

    finished = await run(*command, "--config", str(file))

    assert (finished.status, finished.stdout) == (2, "")
    assert f"{file}: " in complaint(finished.stderr)
    assert told in complaint(finished.stderr)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"LLORCH_ORCHESTRATOR_PROT": "1"}, "did you mean LLORCH_ORCHESTRATOR_PORT?"),
        ({"LLORCH_ORCHESTRATOR_PORT": "http"}, "LLORCH_ORCHESTRATOR_PORT: found 'http'"),
        ({"LLORCH_CONFIG": "/nowhere/llorch.toml"}, "/nowhere/llorch.toml: cannot be read: No such file"),
        ({"LLORCH_CONFIG": "/"}, "cannot be read: Is a directory"),
        ({"LLORCH_URL": "localhost:8080"}, "must start with http:// or https://"),
        ({"LLORCH_URL": "http://[::1"}, "the orchestrator's address 'http://[::1' is no URL"),
    ],
    ids=str,
)
async def test_a_wrong_environment_is_told(env: Mapping[str, str], told: str) -> None:
    finished = await run("jobs", "list", env=env)

    assert (finished.status, finished.stdout) == (2, "")
    assert told in complaint(finished.stderr)


async def test_what_a_running_system_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    too_long, much_too_long = "x " * 700, "x " * 5_000
    async with orchestrator_role(tmp_path) as orchestrator:
        url = ("--url", orchestrator.url)
        early = await run("jobs", "submit", "--model", "haiku", "--prompt", "x", "--detach", *url)
        cases = {
            "unknown model": await run("jobs", "submit", "--model", "haikoo", "--prompt", "x", *url),
            "unknown model as JSON": await run("jobs", "submit", "--model", "qwne", "--prompt", "x", "--json", *url),
            "half a reference": await run("jobs", "submit", "--model", "hf:a/b@", "--prompt", "x", *url),
            "unknown job": await run("jobs", "show", "no-such-job", *url),
            "unknown job as JSON": await run("jobs", "show", "no-such-job", "--json", *url),
            "a way out": await run("jobs", "show", "../../health", *url),
        }
    async with whole_system(tmp_path) as whole:
        url = ("--url", whole.url)
        await until(lambda: _model_known(whole))
        cases["too long by its bytes"] = await run(
            "jobs", "submit", "--model", "haiku", "--prompt", much_too_long, *url
        )
        unseen = await run("jobs", "submit", "--model", "haiku", "--prompt", too_long, *url)
        cases["too long for a worker that had to start"] = unseen
        cases["too long by its tokens"] = await run("jobs", "submit", "--model", "haiku", "--prompt", too_long, *url)

    assert early.status == 0
    assert {name: finished.status for name, finished in cases.items()} == dict.fromkeys(cases, 1)
    assert {name: finished.stdout for name, finished in cases.items()} == dict.fromkeys(cases, "")
    told = {name: complaint(finished.stderr) for name, finished in cases.items()}
    assert "did you mean haiku?" in told["unknown model"]
    assert "did you mean qwen?" in told["unknown model as JSON"]
    assert "hf:org/repo[@revision][::file=path]" in told["half a reference"]
    assert "no such job" in told["unknown job"]
    assert told["unknown job as JSON"] == told["a way out"] == told["unknown job"]
    assert "the prompt is at least " in told["too long by its bytes"]
    for name in ("too long by its bytes", "too long for a worker that had to start", "too long by its tokens"):
        assert "512" in told[name], told[name]
    assert "at least" not in told["too long by its tokens"]


async def _model_known(whole: Role) -> bool:
    can = await whole.client.send("GET", "/v2/meta/capabilities", dict[str, object])
    return bool(can["models"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--temperature", "5", "--top-p", "7"),
            "--temperature: expected `float` <= 2.0; --top-p: expected `float` <= 1.0",
        ),
        (("--temperature", "nan"), "--temperature: expected `float`"),
        (("--max-tokens", "0"), "--max-tokens: expected `int` >= 1"),
        (("--seed", str(2**64)), "--seed: expected `int` <= 18446744073709551615"),
        (("--seed", "-1"), "--seed: expected `int` >= 0"),
        (("--stop", "a", "--stop", "b", "--stop", "c", "--stop", "d", "--stop", "e"), "--stop: expected `array`"),
        (("--session-id", "a b"), "--session-id: expected printable ASCII, no spaces"),
        (("--messages", "/nowhere"), "exactly one of --prompt and --messages"),
        (("--priority", "urgent"), "'urgent' is not one of 'interactive', 'batch'"),
        (("--idempotency-key", "é"), "'--idempotency-key': expected 1 to 255 printable ASCII characters"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_a_wrong_flag_is_told_before_anything_is_sent(arguments: Sequence[str], told: str) -> None:
    finished = await run("jobs", "submit", *HAIKU, *arguments, "--url", "http://127.0.0.1:1")

    assert (finished.status, finished.stdout) == (2, "")
    assert told in complaint(finished.stderr)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pool", "worker", "spawn", "cpu", "--model", "haiku", "--port", "99999"), "--port: expected `int` <= 65535"),
        (("pool", "worker", "spawn", "cpu", "--model", "haiku", "--backend", "cuda"), "BACKEND is cpu"),
        (("pool", "worker", "stop", ""), "'ID': expected an id"),
        (("jobs", "list", "--limit", "500"), "'--limit': 500 is not in the range"),
        (("jobs", "list", "--cursor", "foo"), "'--cursor': expected what an earlier list told"),
        (("jobs", "follow", "1", "--after", "foo"), "'--after': expected an event id"),
        (("jobs", "show", ""), "'ID': expected an id"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_wrong_usage_is_told_by_its_flag_before_anybody_is_asked(arguments: Sequence[str], told: str) -> None:
    finished = await run(*arguments, env={"LLORCH_URL": "http://127.0.0.1:1"})

    assert (finished.status, finished.stdout) == (2, "")
    assert told in complaint(finished.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "submit", "--model", "haiku", "--prompt", NOT_UTF8),
        ("jobs", "submit", "--model", NOT_UTF8, "--prompt", "x"),
        ("jobs", "show", NOT_UTF8),
        ("jobs", "list", "--session-id", NOT_UTF8),
        ("pool", "worker", "stop", NOT_UTF8),
        (NOT_UTF8,),
    ],
    ids=lambda arguments: " ".join(arguments[:3]).encode("ascii", "replace").decode(),
)
async def test_an_argument_that_is_not_utf8_is_told(arguments: Sequence[str], tmp_path: Path) -> None:
    finished = await run(*arguments, env={"LLORCH_POOL_DATA_DIR": str(tmp_path)})

    assert (finished.status, finished.stdout) == (2, "")
    assert complaint(finished.stderr)


@pytest.mark.parametrize(("stdin", "told"), [(b"", "length >= 1"), (b"caf\xe9", "is not UTF-8 (byte 3)")])
async def test_a_prompt_on_stdin_that_is_none_is_told(stdin: bytes, told: str) -> None:
    finished = await run("jobs", "submit", "--model", "haiku", "--prompt", "-", stdin=stdin)

    assert finished.status == 2
    assert told in complaint(finished.stderr)
