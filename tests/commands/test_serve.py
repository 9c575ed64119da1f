"""`litemedsam serve`: what is refused before a model is loaded."""

import pytest

from litemedsam_jax.cli import main
from litemedsam_jax.weights import safetensors_file
from tests.support.small_network import random_variables, small_model


@pytest.fixture
def refused(tmp_path, capsys):
    """The message with which the command ends, with small weights of the names given."""

    def run(*also: str, options: tuple[str, ...] = ()) -> str:
        arguments = ["--port", "0", "--weights", str(tmp_path / "start.safetensors"), *options]
        for number, name in enumerate(("start", *also)):
            variables = random_variables(small_model(), seed=number)
            safetensors_file.save(tmp_path / f"{name}.safetensors", variables, small_model())
        for name in also:
            arguments += ["--also", str(tmp_path / f"{name}.safetensors")]
        assert main(arguments, command="serve") == 2
        message = capsys.readouterr().err
        assert message.startswith("litemedsam serve: ") and message.count("\n") == 1
        return message

    return run


@pytest.mark.parametrize("name", ["my weights", "..", "ärzte"])
def test_weights_whose_name_cannot_stand_in_an_address(refused, name):
    assert "its name is a part of the server's URL" in refused(name)


def test_weights_with_another_encoder_whose_embeddings_would_be_taken_for_theirs(refused):
    assert "other.safetensors: its image encoder is another" in refused("other")


def test_steps_that_need_a_whole_mask(refused):
    assert "smooth needs the whole mask" in refused(options=("--postprocess", "smooth"))
