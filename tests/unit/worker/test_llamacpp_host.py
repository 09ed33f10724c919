"""Which devices count as a backend's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xllamacpp

from roles.worker.llamacpp_host import _is_a, _parameters, _threads

TOLD: dict[str, Any] = {
    "model_path": __file__,
    "socket": "s",
    "key": "k",
    "slots": 2,
    "ctx": 64,
    "batch": 32,
    "threads": 1,
    "device_index": 0,
    "split": {},
    "kv_type": "f16",
    "lora": [],
    "draft": "",
    "projector": "",
}


@pytest.mark.parametrize(
    ("name", "backend", "is_one"),
    [("CUDA0", "cuda", True), ("CPU", "cuda", False), ("Metal", "metal", True), ("MTL0", "metal", True)],
)
def test_a_device_belongs_to_the_backend_that_it_is_named_after(name: str, backend: str, is_one: bool) -> None:
    assert _is_a({"name": name}, backend) == is_one


def test_a_small_model_gets_one_thread(tmp_path: Path) -> None:
    small = tmp_path / "small.gguf"
    small.write_bytes(bytes(1000))

    assert _threads(str(small)) == 1


def test_one_gpu_gets_all_of_a_model_and_several_get_their_parts() -> None:
    told = {**TOLD, "backend": "cuda", "device_index": 1}
    laid: list[Any] = [_parameters(xllamacpp, {**told, "split": split}) for split in ({}, {"0": 17, "2": 16})]
    alone, together = laid

    assert (alone.split_mode, alone.main_gpu, any(alone.tensor_split)) == (0, 1, False)
    assert (together.split_mode, list(together.tensor_split[:4])) == (1, [17, 0, 16, 0])


def test_a_quantised_cache_needs_flash_attention_and_the_draft_has_the_same() -> None:
    plain: Any = _parameters(xllamacpp, {**TOLD, "backend": "cpu"})
    told = {**TOLD, "backend": "cpu", "kv_type": "q8_0", "lora": [["a.gguf", 0.5]], "draft": "d.gguf", "projector": "p"}
    full: Any = _parameters(xllamacpp, told)

    q8_0, f16 = xllamacpp.ggml_type.GGML_TYPE_Q8_0, xllamacpp.ggml_type.GGML_TYPE_F16
    assert (plain.cache_type_k, plain.cache_type_v, plain.flash_attn_type) == (f16, f16, -1)
    assert (full.cache_type_k, full.cache_type_v, full.flash_attn_type) == (q8_0, q8_0, 1)
    assert (full.speculative.draft.cache_type_k, full.speculative.draft.mparams.path) == (q8_0, "d.gguf")
    assert [(adapter.path, adapter.scale) for adapter in full.lora_adapters] == [("a.gguf", 0.5)]
    assert (full.mmproj.path, full.video_ffmpeg_bin_dir) == ("p", "/dev/null")
