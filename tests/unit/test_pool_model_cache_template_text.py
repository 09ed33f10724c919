"""What a chat template is found to know, from its text alone."""

from __future__ import annotations

import pytest

from roles.pool.model_cache.template_text import knows
from tests.support.models import CHAT_TEMPLATE
from tests.support.scribes import HERMES, THINKING

SWITCH = "{% if enable_thinking is defined and not enable_thinking %}{{ '\n' }}{% endif %}"
TOLD = "{% for m in messages %}{% if m.thinking %}{{ m.thinking }}{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "known"),
    [
        ("", ()),
        (CHAT_TEMPLATE, ()),
        (HERMES, ("tools",)),
        (THINKING, ("thinking",)),
        (HERMES + THINKING, ("tools", "thinking")),
        ("{{ tools | tojson }}", ("tools",)),
        ("{%- for tool in tools or [] -%}{{ tool }}{%- endfor -%}", ("tools",)),
        (SWITCH, ("thinking",)),
        (TOLD, ("thinking",)),
        ("{{ 'You have no tools, thinking of it' }}", ()),
        ('{{ "it\\"s tools" }}', ()),
        ("You are a helper with tools. {{ messages[0]['tools'] }}", ()),
        ("{% if builtin_tools or message.tools or tools_in_user_message %}{% endif %}", ()),
        ("{% if message.role == 'tool' %}{{ message.content }}{% endif %}", ()),
        ("[THINK]{{ x }}[/THINK]", ("thinking",)),
        ("{{ x.split('</think>')[-1] }}", ("thinking",)),
    ],
    ids=str,
)
def test_tools_are_known_by_their_variable_and_thoughts_by_their_switch_or_marks(
    template: str, known: tuple[str, ...]
) -> None:
    assert knows(template) == known


@pytest.mark.parametrize("piece", ["{{", "{%", "{{'", "{{'\\'", "\\'", "'\"", "{{ tool", "<think", "{"])
def test_a_hostile_template_is_read_in_one_go(piece: str) -> None:
    assert knows("{{'" + piece * 100_000) == ()
