"""Fault injection: run a second action in the middle of a call, to reproduce a race step by step."""

from typing import Any


class FailAtStep:
    """A repository that runs an action before or after one of its methods, once."""

    def __init__(self, repository: Any, method: str, *, before: Any = None, after: Any = None) -> None:
        assert callable(getattr(repository, method)), method
        self._repository = repository
        self._method = method
        self._before, self._after = before, after

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._repository, name)
        if name != self._method:
            return original

        def call(*args: Any, **kwargs: Any) -> Any:
            before, self._before = self._before, None
            if before:
                before()
            answer = original(*args, **kwargs)
            after, self._after = self._after, None
            if after:
                after()
            return answer

        return call
