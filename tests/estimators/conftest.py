"""What the tests of the estimators share is in problems.py, whose assertions say what they saw."""

import pytest

pytest.register_assert_rewrite(f"{__package__}.problems")
