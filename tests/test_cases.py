"""The tests' own `each`: all cases are tried, and those that fail are named."""

import pytest

from .cases import each


def test_all_cases_are_tried_and_the_failures_named():
    tried = []

    @each("a", [1, 2, 3])
    @each("b, c", [(0, "x"), (9, "y")], ids=["low", "high"])
    def test(a, b, c):
        tried.append((a, b, c))
        assert a > b

    with pytest.raises(AssertionError) as caught:
        test()
    assert tried == [(a, b, c) for a in (1, 2, 3) for b, c in ((0, "x"), (9, "y"))]
    assert caught.value.__notes__ == ["1 of 2 cases of b, c failed: high",
                                      "3 of 3 cases of a failed: 1; 2; 3"]


def test_what_pytest_raises_counts_as_well():
    @each("error", [KeyError, ValueError])
    def test(error):
        with pytest.raises(error):
            raise KeyError("on purpose")

    with pytest.raises(KeyError) as caught:
        test()
    assert caught.value.__notes__ == ["1 of 2 cases of error failed: ValueError"]

    @each("error", [KeyError])
    def silent(error):
        with pytest.raises(error):
            pass

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE") as caught:
        silent()
    assert caught.value.__notes__ == ["1 of 1 cases of error failed: KeyError"]


@each("value", [1, 2])
def test_fixtures_are_given(value, tmp_path):
    (tmp_path / str(value)).touch()
    assert len(list(tmp_path.iterdir())) == value


def test_a_case_that_the_test_does_not_take():
    with pytest.raises(AssertionError, match="takes no b"):
        @each("b", [1])
        def test(a):
            pass
