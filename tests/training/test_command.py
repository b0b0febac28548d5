import argparse

import pytest

import keras_vit
from keras_vit.training import command
from tests.training.tiny import build_model


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_command_trains_and_says_what_it_reached(tmp_path, monkeypatch, capsys):
    received = {}

    def create_model(name, **arguments):
        received.update(name=name, **arguments)
        return build_model(size=16)

    monkeypatch.setattr(keras_vit, "create_model", create_model, raising=False)
    arguments = ["--model", "tiny", "--run-dir", str(tmp_path / "run"), "--epochs", "2", "--image-size", "16"]
    arguments += ["--drop-path", "0.1", "--learning-rate", "0.01", "--precision", "mixed_bfloat16"]
    command.main(parsed(*arguments))
    assert received == {
        "name": "tiny",
        "classes": 10,
        "input_shape": (16, 16, 1),
        "drop_path_rate": 0.1,
        "dtype": "mixed_bfloat16",
    }
    printed = capsys.readouterr().out.splitlines()
    assert "Epoch 2/2" in printed
    assert printed[-1].startswith(f"{tmp_path / 'run' / 'best.keras'}: top-1 ")
    assert printed[-1].endswith("on 360 test images")

    with pytest.raises(FileExistsError):
        command.main(parsed(*arguments))
    command.main(parsed(*arguments, "--resume"))
    assert capsys.readouterr().out.splitlines()[-1] == printed[-1]


@pytest.mark.parametrize("arguments", ["", "--model tiny", "--precision int8", "--data nothing"])
def test_arguments_that_make_no_run_are_refused(arguments):
    with pytest.raises(SystemExit):
        parsed(*arguments.split())
