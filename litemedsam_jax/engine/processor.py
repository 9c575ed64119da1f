"""The host's processor: its name, its features, the instruction sets that executables are for."""

import platform
from functools import cache
from pathlib import Path

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"})
# Features that an instruction set needs, by the name XLA knows it by; the best first. Whether there
# is AMX beside AVX-512's bfloat16 is asked where a product runs.
INSTRUCTION_SETS = {
    "avx512_bf16": _AVX512 | {"avx512_bf16", "avx512_vnni"},
    "avx512": _AVX512,
    "avx2": frozenset({"avx2", "fma", "bmi2"}),
}


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def features() -> frozenset[str]:
    """What the processor can do, in Linux's words; empty where that is not known."""
    entries = _cpuinfo()
    return frozenset((entries.get("flags") or entries.get("Features") or "").split())


def name() -> str:
    """The processor's model, such as 'Intel(R) Xeon(R) Platinum 8481C'."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def instruction_sets(known: frozenset[str]) -> list[str]:
    """The instruction sets that a processor with these features has, the best first."""
    return [isa for isa, needed in INSTRUCTION_SETS.items() if needed <= known]


def bfloat16_hardware(known: frozenset[str] | None = None) -> str:
    """What multiplies bfloat16 in this (or such a) processor: "AMX", "AVX-512 BF16", or ""."""
    known = features() if known is None else known
    if {"amx_bf16", "amx_tile"} <= known:
        return "AMX"
    return "AVX-512 BF16" if "avx512_bf16" in known else ""
