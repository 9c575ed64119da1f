"""`litemedsam compile` and `segment`: what --precision and --isa take."""

import sys

import pytest

from litemedsam_jax import cli
from litemedsam_jax.engine import processor


@pytest.mark.parametrize("command", ["compile", "segment"])
def test_another_precision_is_refused_with_the_three(command, capsys):
    paths = ["-i", "in", "-o", "out"] if command == "segment" else []
    with pytest.raises(SystemExit) as ended:
        cli.main([*paths, "--precision", "half"], command=command)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("'half'", "float32", "bfloat16", "auto"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say what they lack")
def test_nothing_is_compiled_for_instructions_that_are_not_here(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: frozenset({"avx2", "fma", "bmi2"}))
    arguments = ["--isa", "avx512_bf16", "--precision", "bfloat16", "--output", str(tmp_path)]
    assert cli.main(arguments, command="compile") == 0
    assert "nothing for avx512_bf16, which this machine lacks" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
