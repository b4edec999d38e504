"""Asserts of the verbs say what they compared."""

import pytest

pytest.register_assert_rewrite("matrix.verbs")
