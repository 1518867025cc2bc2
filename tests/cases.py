"""Many small cases in one test."""

import functools
import inspect

import pytest


def each(names, values, ids=None):
    """A test of all these cases at once, written as `pytest.mark.parametrize` is.

    For cases so small that pytest's own work for a test is the larger part.  All of them are tried,
    whichever fail; the first one's error is raised, with a note that names each one that failed.
    They share the test's fixtures, a `tmp_path` for instance.
    """
    keys = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    values = list(values)
    if ids is None:
        texts = [_text(place, value) for place, value in enumerate(values)]
    else:
        texts = list(map(ids, values) if callable(ids) else map(str, ids))
    cases = [(text, dict(zip(keys, value if len(keys) > 1 else [value], strict=True)))
             for text, value in zip(texts, values, strict=True)]
    assert cases, "a test of no cases"

    def decorate(test):
        @functools.wraps(test)
        def all_cases(*arguments, **fixtures):
            failed = []
            for text, case in cases:
                try:
                    test(*arguments, **fixtures, **case)
                except (Exception, pytest.fail.Exception) as error:
                    failed.append((text, error))
            if failed:
                _, error = failed[0]
                error.add_note(f"{len(failed)} of {len(cases)} cases of {', '.join(keys)} failed: "
                               + "; ".join(text for text, _ in failed))
                raise error

        signature = inspect.signature(test)
        assert set(keys) <= set(signature.parameters), f"{test.__name__} takes no {names}"
        all_cases.__signature__ = signature.replace(parameters=[
            parameter for name, parameter in signature.parameters.items() if name not in keys])
        return all_cases

    return decorate


def _text(place, value):
    """What a case is called in a message: by its place, where its value has no short name."""
    text = getattr(value, "__name__", None) or repr(value)
    if "<lambda>" in text or " at 0x" in text:
        return f"number {place}"
    return text if len(text) <= 80 else f"number {place}: {text[:67]}..."
