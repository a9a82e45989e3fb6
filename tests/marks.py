"""Marks that several files of tests share."""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(
    shutil.which("cc") is None and shutil.which("gcc") is None,
    reason="the load generator is C, and there is no compiler",
)
