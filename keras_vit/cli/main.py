"""The `keras-vit` command.

Only the names and one-line descriptions of the commands are here. The module of a command is imported when the command
is given, and Keras and TensorFlow when it runs, so that help texts and typing errors are answered at once.
"""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

_COMMANDS = {
    "list": "List the models.",
    "info": "Show the size, cost and origin of a model, or what a .tflite or .onnx file says about itself.",
    "weights": "List or download the published weights of a model.",
    "inspect": "Write a page that shows what a model sees in an image.",
    "records": "Convert a folder of images to TFRecord files.",
    "train": "Train a model with a recipe or with your own settings.",
    "pretrain": "Train an encoder without labels, with MAE or DINO.",
    "evaluate": "Measure the accuracy of a trained model on labeled images.",
    "landscape": "Measure how sharp the training loss is around a model's weights.",
    "quantize": "Prepare a model for quantization-aware training.",
    "export": "Export a model to a .tflite or .onnx file.",
    "verify": "Compare the outputs of a .tflite or .onnx file with those of its model.",
    "audit": "Report what a device cannot run fast in a .tflite file.",
    "benchmark": "Measure the latency of .tflite and .onnx files.",
    "devices": "List the devices that files can run on, and what each lacks.",
    "doctor": "Show the installed versions, and what is missing for which device.",
    "profile": "Show where the time of a .tflite file goes, by operator and by part.",
    "compile": "Compile a .tflite file for the NPU of a chip.",
    "demo": "Train, quantize, export and measure a small model, and write a report.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `keras-vit`. Defaults to the arguments of the process.

    Returns:
        The exit status: 0, 1 after an error or a negative result, 130 after an interruption. An error that the user can
        correct is one line on standard error.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = _parse_command(arguments[:1])
    module = importlib.import_module(f"keras_vit.cli.{command}")
    parser = argparse.ArgumentParser(prog=f"keras-vit {command}", description=_COMMANDS[command])
    module.add_arguments(parser)
    parser.add_argument("--verbose", action="store_true", help="show the logs of TensorFlow and the converter")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return _run(module, parser.parse_args(arguments[1:]))


def _parse_command(arguments: list[str]) -> str:
    width = max(map(len, _COMMANDS))
    parser = argparse.ArgumentParser(
        prog="keras-vit",
        usage="keras-vit COMMAND [arguments]",
        description="Train, quantize, export and measure vision transformers.\n\n"
        + "\n".join(["commands:", *(f"  {name:<{width}}  {summary}" for name, summary in _COMMANDS.items())]),
        epilog="`keras-vit COMMAND --help` describes the arguments of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    command = parser.parse_args(arguments).command
    if command not in _COMMANDS:
        nearest = difflib.get_close_matches(command, _COMMANDS, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else "`keras-vit --help` lists the commands."
        parser.error(f"there is no command {command!r}. {hint}")
    return command


def _run(module, given: argparse.Namespace) -> int:
    from keras_vit.utils.native_logs import native_logs

    mistake, code = None, 0
    try:
        # Any other exception than a mistake leaves the block, and then the logs are shown: they may give the reason.
        with native_logs(show=given.verbose):
            try:
                code = module.run(given) or 0
            except (ValueError, TypeError, OSError, ImportError) as error:
                if given.debug:
                    raise
                mistake = error
    except KeyboardInterrupt:
        print("keras-vit: interrupted", file=sys.stderr)
        return 130
    except (RuntimeError, FloatingPointError) as error:
        if given.debug:
            raise
        mistake = error
    if mistake is not None:
        print(f"keras-vit: {mistake}", file=sys.stderr)
    return code if mistake is None else 1
