"""Logs of TensorFlow's C++ code, tracebacks and interruptions: when the command line shows them."""

import os
import warnings

import pytest

from keras_vit.cli.main import main

LOG = "I0000 00:00:1767225600.578097   20224 port.cc:153] a line from C++\n"


@pytest.fixture
def fails_with(monkeypatch):
    """Give a function that makes `keras-vit audit` write a log line, warn, and raise an exception."""

    def replace(error):
        def run(given):
            os.write(2, LOG.encode())
            warnings.warn("a warning", stacklevel=1)
            if error is not None:
                raise error

        monkeypatch.setattr("keras_vit.cli.audit.run", run)

    return replace


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("error", "options", "shown"),
    [
        (None, [], False),
        (None, ["--verbose"], True),
        (ValueError("a mistake"), [], False),
        (ValueError("a mistake"), ["--verbose"], True),
        (RuntimeError("a failure"), [], True),
    ],
    ids=str,
)
def test_logs_are_shown_when_asked_for_or_after_a_failure(error, options, shown, fails_with, capfd):
    fails_with(error)
    code = main(["audit", "model.tflite", *options])
    out, err = capfd.readouterr()
    assert code == (0 if error is None else 1) and out == ""
    assert (LOG in err) == shown
    assert ("keras-vit: " in err) == (error is not None)
    assert "Traceback" not in err


def test_other_exceptions_show_the_logs_and_the_traceback(fails_with, capfd):
    fails_with(KeyError("a fault of the program"))
    with pytest.raises(KeyError, match="a fault of the program"):
        main(["audit", "model.tflite"])
    assert LOG in capfd.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a mistake"), RuntimeError("a failure")], ids=str)
def test_debug_raises(error, fails_with, capfd):
    fails_with(error)
    with pytest.raises(type(error), match=str(error)) as raised:
        main(["audit", "model.tflite", "--debug"])
    assert raised.traceback[-1].name == "run"
    assert LOG in capfd.readouterr().err


def test_an_interruption_is_one_line(fails_with, capfd):
    fails_with(KeyboardInterrupt())
    assert main(["audit", "model.tflite"]) == 130
    assert capfd.readouterr().err.endswith("keras-vit: interrupted\n")
