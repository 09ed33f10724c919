"""Chat templates as the torch engine renders them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("jinja2", reason="the extra torch is not installed")

from llorch.errors import InvalidRequest
from roles.worker.backend.chat_template import ChatTemplate, template_of

ASKED = [{"role": "user", "content": "hé"}]


def template(folder: Path, source: object) -> ChatTemplate:
    config = {"chat_template": source, "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return template_of(folder)


def test_a_template_gets_the_messages_and_the_names_of_special_tokens(tmp_path: Path) -> None:
    source = """{{ bos_token }}
    {%- for m in messages %}
        {{- m.role }}: {{ m.content | tojson }}{{ eos_token }}
    {%- endfor %}
    {%- if add_generation_prompt %}!{% endif %}"""

    assert template(tmp_path, source).render(ASKED) == '<s>user: "hé"</s>!'


def test_of_several_templates_the_default_is_taken_and_a_file_goes_before_them(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]

    assert template(tmp_path, several).render(ASKED) == "plain"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert template_of(tmp_path).render(ASKED) == "file"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% if %}",
        "{{ messages.append(1) }}",
        "{{ messages[7].content.x }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_refuses_the_messages_or_reaches_out_of_the_sandbox_is_the_requests_fault(
    tmp_path: Path, source: str
) -> None:
    with pytest.raises(InvalidRequest, match="does not accept"):
        template(tmp_path, source).render(ASKED)


def test_without_a_template_messages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="give a prompt"):
        template_of(tmp_path).render(ASKED)
