"""The engines installed here, what each computes on, and which architectures it knows. Imports none of them."""

from __future__ import annotations

import importlib.util
import mmap
from collections.abc import Mapping
from pathlib import Path

from llorch.wire.pools import Backend, Engine
from roles.pool.model_cache import checkpoint

Engines = Mapping[Engine, frozenset[Backend]]
"""Of each installed engine, the backends it can use."""

_MODULES: Mapping[Engine, tuple[str, ...]] = {
    "llamacpp": ("xllamacpp",),
    "torch": ("torch", "safetensors", "tokenizers", "jinja2"),
    "ctransformers": ("ctransformers", "jinja2", "numpy"),
}
"""What each needs; the first is what computes."""
_MARKS: Mapping[Backend, tuple[bytes, ...]] = {
    "cuda": (b"libcuda.so", b"libcudart", b"ggml_backend_cuda_init"),
    "metal": (b"/Metal.framework/",),
}
"""What a library says that uses one: of other libraries that it asks for, or of its own parts."""
_MACH_O = (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How the libraries of macOS begin, for one kind of processor and for several: `mach-o/loader.h`, `mach-o/fat.h`."""

ARCHITECTURES: Mapping[Engine, frozenset[str]] = {
    # llm_arch of https://github.com/ggml-org/llama.cpp (src/llama-arch.cpp), as in the llama.cpp inside xllamacpp
    # 2026.10; without those that are no language models of their own (clip, drafts, audio decoders).
    "llamacpp": frozenset(
        """
        afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bert bitnet bloom chameleon
        chatglm codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr deepseek32
        deepseek4 dots1 dots3note dream ernie4_5 ernie4_5-moe eurobert exaone exaone-moe exaone4 falcon falcon-h1 gemma
        gemma-embedding gemma-embedding2 gemma2 gemma3 gemma3n gemma4 glm-dsa glm4 glm4moe glm5-next gpt-oss gpt2 gptj
        gptneox granite granite_swa granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense
        hunyuan-moe hunyuan_vl hy_v3 hy_v4 internlm2 jais jais2 jamba jina-bert-v2 jina-bert-v3 k2-horizon kimi-k3
        kimi-linear laguna lfm2 lfm2moe llada llada-moe llama llama-embed llama4 maincoder mamba mamba2 maple mellum
        mimo2 minicpm minicpm3 minimax-01 minimax-m2 mistral3 mistral4 modern-bert mpt nanbeige nemotron nemotron_h
        nemotron_h_moe neo-bert nomic-bert nomic-bert-moe olmo olmo2 olmoe openelm orion paddleocr pangu-embedded phi2
        phi3 phimoe plamo plamo2 plamo3 plm qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3next
        qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 rwkv6qwen2 rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm
        starcoder starcoder2 step35 t5 t5encoder talkie xverse
        """.split()
    ),
    "torch": checkpoint.ARCHITECTURES,
    # In GGUF files; of the forms before that it reads all that `llorch.ggml` does.
    "ctransformers": frozenset({"llama"}),
}


def installed() -> Engines:
    """Find the engines; looks at files, so call it once and in a thread."""
    found: dict[Engine, frozenset[Backend]] = {}
    for engine, modules in _MODULES.items():
        specs = [importlib.util.find_spec(module) for module in modules]
        if (first := specs[0]) is not None and None not in specs:
            found[engine] = computes_on(engine, Path(first.origin or "").parent)
    return found


def computes_on(engine: Engine, folder: Path) -> frozenset[Backend]:
    """Return what an engine can use, whose package is in *folder*, by what its libraries ask for."""
    if engine == "torch":  # its libraries are gigabytes, and one of them says it by its name
        libraries = [*folder.glob("lib/libtorch_cuda*"), *folder.glob("lib/libtorch_cpu.dylib")]
    elif engine == "llamacpp":
        beside = folder.parent.glob(f"{folder.name}.libs/*.so*")
        libraries = [*folder.glob("*.so"), *folder.glob("lib/*.so"), *folder.glob("**/*.dylib"), *beside]
    else:
        libraries = []
    return frozenset({"cpu", *(backend for library in libraries if (backend := _used_by(library)) is not None)})


def _used_by(library: Path) -> Backend | None:
    """Return what kind of accelerator a library can use, if any."""
    if "cuda" in library.name:
        return "cuda"
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            backend: Backend = "metal" if data[:4] in _MACH_O else "cuda"
            return backend if any(data.find(mark) >= 0 for mark in _MARKS[backend]) else None
    except (OSError, ValueError):
        return None
