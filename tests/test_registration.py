"""What waits for the import of a module runs right after it, once, and leaves no trace in the import system."""

import importlib
import sys

import pytest

import keras_vit
from keras_vit._registration import finish_waiting, when_imported


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return the name of a module that can be imported, and is not."""
    (tmp_path / "awaited_module.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = list(sys.meta_path)
    yield "awaited_module"
    sys.modules.pop("awaited_module", None)
    assert sys.meta_path == before


def test_the_actions_run_in_order_right_after_the_import(module):
    seen = []
    for number in (1, 2):
        when_imported(module, lambda number=number: seen.append((number, sys.modules[module].value)))
    import json  # Any other import leaves the actions waiting.

    assert json and seen == []
    loaded = importlib.import_module(module)
    assert seen == [(1, 3), (2, 3)]
    # The module looks as if nobody had waited for it.
    assert type(loaded.__loader__).__module__ == type(importlib.util.find_spec("json").loader).__module__
    assert loaded.__spec__.loader is loaded.__loader__
    importlib.reload(loaded)
    assert seen == [(1, 3), (2, 3)]


def test_an_import_by_a_module_of_this_package_is_completed_first(module, monkeypatch, tmp_path):
    """The actions may import that module, which is not complete before."""
    (tmp_path / "importing.py").write_text(f"import {module}\nvalue = 4\n")
    monkeypatch.setattr(keras_vit, "__path__", [*keras_vit.__path__, str(tmp_path)])
    seen = []
    when_imported(module, lambda: seen.append(sys.modules["keras_vit.importing"].value))
    try:
        importlib.import_module("keras_vit.importing")
        assert seen == []
        finish_waiting()
        assert seen == [4]
    finally:
        del sys.modules["keras_vit.importing"], keras_vit.importing


def test_an_imported_module_is_not_waited_for(module):
    importlib.import_module(module)
    seen = []
    when_imported(module, lambda: seen.append(1))
    assert seen == [1]


def test_a_missing_module_is_missing_as_ever():
    before = list(sys.meta_path)
    when_imported("module_that_does_not_exist", lambda: pytest.fail("the action ran"))
    with pytest.raises(ModuleNotFoundError, match="module_that_does_not_exist"):
        importlib.import_module("module_that_does_not_exist")
    assert sys.meta_path == before


def test_an_error_in_the_module_appears(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    when_imported("broken_module", lambda: pytest.fail("the action ran"))
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("broken_module")
