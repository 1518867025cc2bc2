from typing import final

from .types import Array

@final
class Borrowed:
    name: str
    array: Array
    def __init__(self, name: str, array: Array) -> None: ...
    def check(self) -> int: ...

def apart(X: Array, Z: Array) -> bool: ...
