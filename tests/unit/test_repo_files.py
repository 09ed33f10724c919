"""Which file of a repository is meant, and what is never guessed."""

from __future__ import annotations

import pytest

from llorch.errors import InvalidRequest, ModelNotFound
from llorch.repo_files import choose, of_quantisation


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["README.md", "only.gguf"], "only.gguf"),
        (["m.Q8_0.gguf", "m.Q4_K_M.gguf"], "m.Q4_K_M.gguf"),
        (
            ["m-q8_0.gguf", "m-q4_k_m-00001-of-00002.gguf", "m-q4_k_m-00002-of-00002.gguf"],
            "m-q4_k_m-00001-of-00002.gguf",
        ),
        (["m.Q5_0.gguf", "mmproj-m.gguf", "imatrix.gguf"], "m.Q5_0.gguf"),
        (["config.json", "model.safetensors", "m.gguf"], "m.gguf"),
        (["README.md", "config.json", "model.safetensors"], "config.json"),
        (["config.json", "model.safetensors.index.json", "mmproj-m.gguf"], "config.json"),
    ],
)
def test_the_one_model_or_the_one_of_q4_k_m_is_chosen(files: list[str], expected: str) -> None:
    assert choose("o/r", files) == expected


def test_no_choice_is_made_where_it_would_be_a_guess() -> None:
    with pytest.raises(InvalidRequest) as several:
        choose("o/r", ["a.Q8_0.gguf", "b.f16.gguf"])
    with pytest.raises(InvalidRequest):
        choose("o/r", ["a.Q4_K_M.gguf", "b.Q4_K_M.gguf"])
    with pytest.raises(ModelNotFound):
        choose("o/r", ["model.safetensors"])

    assert several.value.details == {"files": ["a.Q8_0.gguf", "b.f16.gguf"]}
    assert "hf:o/r::file=a.Q8_0.gguf" in several.value.message


def test_a_file_is_found_by_its_quantisation_and_by_no_part_of_another() -> None:
    files = [
        "m-Q4_K.gguf",
        "m-q4_k_m.gguf",
        "b-Q8_0-00001-of-00002.gguf",
        "b-Q8_0-00002-of-00002.gguf",
        "mmproj-F16.gguf",
    ]

    assert [of_quantisation("o/r", name, files) for name in ("Q4_K", "q4_K_M", "Q8_0")] == files[:3]
    with pytest.raises(ModelNotFound, match=r"it has: b-Q8_0-00001-of-00002\.gguf, m-Q4_K\.gguf, m-q4_k_m\.gguf"):
        of_quantisation("o/r", "F16", files)
    with pytest.raises(InvalidRequest, match=r"several models of that quant.*it has: a\.F16\.gguf, b\.F16\.gguf"):
        of_quantisation("o/r", "F16", ["a.F16.gguf", "b.F16.gguf", "c.Q8_0.gguf"])
