"""What servers tell of themselves, in the shapes that their own sources and documentation show."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest

from llorch.server_facts import Card, Cards, Facts, of_model, read

VLLM = """{"object":"list","data":[{"id":"Qwen/Qwen2.5-7B-Instruct","object":"model","created":1748000000,
"owned_by":"vllm","root":"Qwen/Qwen2.5-7B-Instruct","parent":null,"max_model_len":32768,"permission":[{"id":"modelperm-1",
"object":"model_permission","allow_sampling":true}]},{"id":"my-lora","object":"model","created":1748000000,
"owned_by":"vllm","root":"/adapters/mine","parent":"Qwen/Qwen2.5-7B-Instruct","max_model_len":null}]}"""
SGLANG = """{"object":"list","data":[{"id":"meta-llama/Llama-3.1-8B-Instruct","object":"model","created":1748000000,
"owned_by":"sglang","root":"meta-llama/Llama-3.1-8B-Instruct","parent":null,"max_model_len":131072}]}"""
SGLANG_INFO = """{"model_path":"meta-llama/Llama-3.1-8B-Instruct","max_running_requests":null,"tp_size":1,"dp_size":2,
"internal_states":[{"last_gen_throughput":129.3,"effective_max_running_requests_per_dp":128},{"effective_max_running_requests_per_dp":128}],"version":"0.5.5"}"""
LLAMA = """{"models":[{"name":"haiku-x","model":"haiku-x"}],"object":"list","data":[{"id":"haiku-x",
"aliases":["haiku-x"],"object":"model","created":1795649316,"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":1982,"n_ctx":256,
"n_ctx_train":512,"n_params":1905440,"size":2028760,"ftype":"Q8_0"}}]}"""
PROPS = """{"default_generation_settings":{"params":{"seed":4294967295},"n_ctx":256},"total_slots":2,"model_alias":"x",
"model_ftype":"Q8_0","model_path":"x.gguf","chat_template":"{{ x }}",
"chat_template_caps":{"supports_tools":false},"build_info":"b6500-abc"}"""
OLLAMA = (
    """{"object":"list","data":[{"id":"llama3.2:latest","object":"model","created":1748000000,"owned_by":"library"}]}"""
)
OPENAI = """{"object":"list","data":[{"id":"gpt-x","object":"model","created":1748000000,"owned_by":null}]}"""


@pytest.mark.parametrize(
    ("listed", "answers", "facts"),
    [
        (VLLM, {"/version": '{"version":"0.11.2"}'}, Facts("vllm", "0.11.2", 0, 32768)),
        (VLLM, {}, Facts("vllm", "", 0, 32768)),
        (SGLANG, {"/server_info": SGLANG_INFO}, Facts("sglang", "0.5.5", 256, 131072)),
        (SGLANG, {"/get_server_info": SGLANG_INFO}, Facts("sglang", "0.5.5", 256, 131072)),
        (SGLANG, {"/server_info": "<html>"}, Facts("sglang", "", 0, 131072)),
        (
            LLAMA,
            {"/props": PROPS},
            Facts("llama-server", "b6500-abc", 2, 256, "Q8_0", 1982, knows_tools=False, vocab_type=2),
        ),
        (LLAMA, {}, Facts("openai", "", 0, 256)),
        (OLLAMA, {"/version": "404 page not found", "/props": "[]"}, Facts("openai")),
        (OPENAI, {"/version": '{"version":"1"}'}, Facts("openai")),
        (
            '{"data":[{"id":"haiku","created":0,"owned_by":"llorch","object":"model"}]}',
            {"/v2/meta/version": '{"version":"0.4.0","protocol":1}'},
            Facts("llorch", "0.4.0"),
        ),
    ],
)
def test_a_server_is_known_by_what_it_answers(listed: str, answers: Mapping[str, str], facts: Facts) -> None:
    cards = msgspec.json.decode(listed, type=Cards).data

    found = read(cards[0], {path: text.encode() for path, text in answers.items()})

    assert found == facts


def test_a_model_is_found_by_its_whole_name_alone() -> None:
    cards = msgspec.json.decode(VLLM, type=Cards).data

    assert of_model(cards, "my-lora") == cards[1]
    assert cards[1].context == 0
    assert of_model(cards, "my-lor") is None


def test_the_context_is_the_servers_own_before_what_the_model_was_trained_for() -> None:
    trained = msgspec.convert({"id": "m", "meta": {"n_ctx_train": 4096}}, Card)
    both = msgspec.convert(json.loads('{"id": "m", "meta": {"n_ctx_train": 4096, "n_ctx": 512}}'), Card)

    assert (trained.context, both.context) == (4096, 512)
