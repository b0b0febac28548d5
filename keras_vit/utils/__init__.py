"""Helpers that do not depend on models: files, tables, pages, missing packages, native logs."""
