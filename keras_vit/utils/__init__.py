"""Helpers that know nothing of models: files, tables, pages, missing packages."""
