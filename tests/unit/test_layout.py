"""The shape of the source tree: every module has its test, says what it is, and stays short."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 350  # the aim is 300

# Modules without a test file of their own, each with what shows that it works instead.
CLI = (
    *(
        "app",
        "complaints",
        "demo",
        "haiku_test",
        "job_records",
        "job_view",
        "jobs",
        "local",
        "options",
        "pool",
    ),
    *("pool_models", "pool_worker", "serve", "submit", "task_flags"),
)
DRIVEN = (
    *("api/decisions", "pool_record", "queue/placement"),
    *("api/keys", "api/meta", "api/pools", "api/tasks", "core", "fleet", "metrics", "queue/announcement"),
    *("queue/attempt", "queue/dispatcher", "queue/runs", "queue/settlement"),
    *("state/attempts", "state/rows", "submission"),
)
SCHEDULER = ("capacity", "decisions", "facts", "groups", "needs", "rooms", "served", "serving", "snapshot")
TYPES = (
    *("errors", "log", "settings", "wire/anthropic", "wire/batches", "wire/decisions", "wire/meta", "wire/models"),
    *(
        "wire/ollama",
        "wire/openai",
        "wire/openai_embeddings",
        "wire/openai_replies",
        "wire/responses",
        "wire/operations",
        "wire/pools",
    ),
    *("wire/tasks", "wire/workers"),
)
TESTED_ELSEWHERE = {
    "llorch/__main__.py": "test_imports.py starts it; every end-to-end test goes through it",
    **dict.fromkeys(
        [f"llorch/cli/{name}.py" for name in CLI],
        "test_commands.py and test_main_job.py run the commands as a person does",
    ),
    **dict.fromkeys(
        [f"llorch/cli/{name}.py" for name in ("remote_option", "remote_pool", "remote_ssh")],
        "test_hosts.py reaches another host through a real sshd and over HTTP",
    ),
    "llorch/cli/pooled_worker.py": "every worker process that the pool's end-to-end tests start runs it",
    "llorch/cli/doctor/result.py": "types: every check returns them",
    **dict.fromkeys(
        [f"llorch/cli/{name}.py" for name in ("interrupts", "patience")],
        "test_resume.py cuts connections, kills the orchestrator and presses Ctrl-C, piped and on a terminal",
    ),
    **dict.fromkeys(
        [f"roles/orchestrator/{name}.py" for name in DRIVEN],
        "test_orchestrator_api.py drives it through HTTP, against a real database and a scripted worker",
    ),
    **dict.fromkeys(
        [f"llorch/{name}.py" for name in TYPES],
        "types and constants: whoever uses them tests them",
    ),
    **dict.fromkeys(
        [f"llorch/cli/bench_{name}.py" for name in ("load", "model", "submissions", "system")],
        "test_bench.py measures a real system, a real worker and both",
    ),
    "llorch/cli/own_pool.py": "test_without_pool.py runs commands where no pool does",
    "llorch/cli/top_screen.py": "test_top.py looks at it on a terminal",
    "llorch/cli/question.py": "test_pool_git.py answers it on a terminal",
    "roles/orchestrator/state/pools.py": "test_orchestrator_drain.py restarts the orchestrator between its statements",
    **dict.fromkeys(
        [f"roles/orchestrator/{name}.py" for name in ("api/operations", "operations", "state/live", "state/purge")],
        "test_orchestrator_operations.py drives them through HTTP, against a real database",
    ),
    **dict.fromkeys(
        [f"roles/orchestrator/scheduler/{name}.py" for name in SCHEDULER],
        "test_supply.py tells the supply as a whole of facts and deeds, through whole days too",
    ),
    "roles/orchestrator/state/output.py": "test_text_log.py writes and reads with it, test_store_erasing.py erases",
    "llorch/policy.py": "test_config.py reads it from files",
    "llorch/client.py": "every integration and end-to-end test speaks through it",
    "roles/worker/backend/llamacpp_process.py": "test_worker_llamacpp_process.py kills, starves and misfeeds it",
    "roles/worker/llamacpp_launch.py": "the same: every worker's engine process is started by it",
    "roles/worker/backend/llamacpp_prompts.py": "test_worker_pictures.py and test_worker_continuation.py need it",
    "roles/worker/backend/llamacpp_embedding.py": "test_worker_embedding.py has a real engine make vectors and scores",
    "roles/worker/backend/llamacpp_http.py": "every test of a worker asks its engine through it",
    **dict.fromkeys(
        [f"roles/worker/{name}.py" for name in ("backend/openai_command", "openai_guard")],
        "test_openai_command.py starts a real server with them, and kills each of those that watch it",
    ),
    "roles/worker/backend/openai_tokens.py": "test_openai_engine.py counts with it on a real server",
    **dict.fromkeys(
        [
            f"roles/worker/backend/{name}.py"
            for name in (
                *("torch_engine", "torch_host", "engine_messages", "engine_child", "engine_service"),
                *("ctransformers_engine", "ctransformers_host", "engine_process", "process_engine"),
            )
        ],
        "test_engine_contract.py runs the whole engine, with and without faults",
    ),
    "roles/worker/backend/torch_weights.py": "test_torch_model.py loads every family with it",
    "llorch/serve.py": "every role that the end-to-end tests start and stop is served by it",
    **dict.fromkeys(
        [
            f"roles/orchestrator/{name}.py"
            for name in ("api/batches", "batches/registry", "batches/runner", "state/batches")
        ],
        "test_orchestrator_batches.py drives them with OpenAI's own library, against a real database",
    ),
    "roles/orchestrator/answers.py": "the libraries' tests and those of batches read every answer with it",
    "roles/orchestrator/api/anthropic.py": "test_anthropic_client.py drives it with Anthropic's own library",
    "roles/orchestrator/api/dialogue.py": "both of the libraries' tests go through it",
    **dict.fromkeys(
        [f"roles/orchestrator/api/{name}.py" for name in ("ollama", "ollama_models")],
        "test_ollama_client.py drives them with Ollama's own library",
    ),
    "roles/orchestrator/api/embeddings.py": "test_embeddings.py drives it with the libraries of OpenAI and Ollama",
    "roles/orchestrator/api/openai.py": "test_openai_client.py drives it with OpenAI's own library",
    "roles/orchestrator/api/responses.py": "test_openai_client.py drives it with OpenAI's own library",
    "roles/orchestrator/app.py": "wiring only: every integration test of the orchestrator starts it",
    **dict.fromkeys(
        [f"roles/pool/worker_lifecycle/{name}.py" for name in ("health_watch", "life")],
        "test_pool_worker_lifecycle_supervisor.py starts, starves, misleads and kills what they follow",
    ),
    "roles/pool/app.py": "wiring only: every integration test of the pool starts it",
    "roles/worker/app.py": "wiring only: every integration test of the worker starts it",
}


def sources(*folders: str) -> list[Path]:
    """Return every Python file under *folders*, relative to the root."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py"))


def tails(parts: tuple[str, ...]) -> list[str]:
    """Return the names that a test file may call a module by: for a/b/c they are c, b_c and a_b_c."""
    return ["_".join(parts[start:]) for start in reversed(range(len(parts)))]


def names_with_a_test() -> set[str]:
    """Return every name that some test file answers to: tests/unit/pool/test_plan.py is plan and pool_plan."""
    names: set[str] = set()
    for path in sources("tests"):
        if path.stem.startswith("test_"):
            folders = path.parts[2:-1]
            names.update(tails((*folders, path.stem.removeprefix("test_"))))
    return names


MODULES = [path for path in sources("llorch", "roles") if path.name != "__init__.py"]
# The package is left out of the name: roles/pool/heartbeat.py is tested by test_heartbeat.py or test_pool_heartbeat.py.
# A short name that two modules could claim, such as api, is nobody's: it takes test_pool_api.py.
NAMES = {path: tails(path.with_suffix("").parts[1:]) for path in MODULES}
CLAIMS = Counter(name for names in NAMES.values() for name in names)


@pytest.mark.parametrize("module", [path for path in MODULES if path.as_posix() not in TESTED_ELSEWHERE], ids=str)
def test_every_module_has_its_test_file(module: Path) -> None:
    *short, full = NAMES[module]
    wanted = [*(name for name in short if CLAIMS[name] == 1), full]

    found = names_with_a_test().intersection(wanted)

    assert found, f"{module} has no test file: add one of {', '.join(f'test_{name}.py' for name in wanted)} under tests"


def test_what_is_tested_elsewhere_still_exists() -> None:
    gone = [path for path in TESTED_ELSEWHERE if not (ROOT / path).exists()]

    assert gone == []


@pytest.mark.parametrize("path", sources("llorch", "roles", "build", "tests"), ids=str)
def test_every_file_says_what_it_is(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")

    docstring = ast.get_docstring(ast.parse(text))

    assert docstring or not text.strip(), f"{path} does not begin by saying what it is and what it may not do"


@pytest.mark.parametrize("path", sources("llorch", "roles", "build", "tests"), ids=str)
def test_no_file_is_about_more_than_one_thing(path: Path) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())

    assert lines <= MAX_LINES, f"{path} has {lines} lines: find the second thing that it is about, and move it out"
