"""Latency tests for pytest: `pytest --latency budgets.yaml --device ssh://pi@board` makes a test of each budget.

The plugin ships with the package and does nothing without `--latency`. Then only the budgets are tested, unless test
files are given as well. The option `--device` exists only beside `--latency`, so that it collides with nobody else's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("latency", "latency budgets of .tflite and .onnx files")
    group.addoption("--latency", metavar="BUDGETS.YAML", help="test the latency budgets in a file, and nothing else")
    given = [*sys.argv, *os.environ.get("PYTEST_ADDOPTS", "").split()]
    if any(argument.partition("=")[0] == "--latency" for argument in given):
        group.addoption("--device", default="local", help="device to measure on (default: local, this machine)")


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest collect the file of budgets, in place of the test files if none is given."""
    path = config.getoption("--latency")
    if path is None:
        return
    if not os.path.isfile(path):
        raise pytest.UsageError(f"--latency: there is no file {path!r}.")
    given = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.args = [*given, str(Path(path).resolve())]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the file of budgets."""
    path = parent.config.getoption("--latency")
    if path is None or file_path != Path(path).resolve():
        return None
    return BudgetFile.from_parent(parent, path=file_path)


class BudgetFile(pytest.File):
    """A file of budgets. Each is a test; those of other devices are left out."""

    def collect(self) -> Iterator[pytest.Item]:
        from keras_vit.edge.devices.budgets import load_budgets
        from keras_vit.edge.devices.device import find_device

        device = self.config.getoption("--device")
        try:
            find_device(device)
            budgets = [budget for budget in load_budgets(self.path) if budget.device in (None, device)]
        except (ValueError, OSError, ImportError) as error:
            raise self.CollectError(str(error)) from None
        if not budgets:
            raise self.CollectError(f"{self.path} has no budget for the device {device!r}.")
        for budget in budgets:
            yield BudgetItem.from_parent(self, name=budget.name, budget=budget, device=device)


class BudgetItem(pytest.Item):
    """A budget."""

    def __init__(self, *, budget, device: str, **arguments):
        super().__init__(**arguments)
        self._budget, self._device = budget, device

    def runtest(self) -> None:
        """Measure."""
        from keras_vit.edge.devices.budgets import check_budget

        outcome = check_budget(self._budget, self._device)
        self.user_properties += list(outcome.measured.items())
        if not outcome.kept:
            raise BudgetExceededError(str(outcome))
        self.add_report_section("call", "latency", str(outcome))

    def repr_failure(self, excinfo, style=None):
        """Return the sentence alone: a traceback says nothing about a latency."""
        if isinstance(excinfo.value, (BudgetExceededError, ValueError, OSError, ImportError, RuntimeError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, self.name


class BudgetExceededError(Exception):
    """A file is slower than its budget."""
