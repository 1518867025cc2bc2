# Written by setup.py from ops.def.
from .layers import Activation

class ReLU(Activation):
    def __init__(self) -> None: ...

class LeakyReLU(Activation):
    alpha: float
    def __init__(self, alpha: float = 0.01) -> None: ...

class Sigmoid(Activation):
    def __init__(self) -> None: ...

class Tanh(Activation):
    def __init__(self) -> None: ...

class ELU(Activation):
    alpha: float
    def __init__(self, alpha: float = 1.0) -> None: ...

class GELU(Activation):
    def __init__(self) -> None: ...

class SiLU(Activation):
    def __init__(self) -> None: ...

class Mish(Activation):
    def __init__(self) -> None: ...

class SELU(Activation):
    def __init__(self) -> None: ...

__all__ = ['ELU', 'GELU', 'LeakyReLU', 'Mish', 'ReLU', 'SELU', 'SiLU', 'Sigmoid', 'Tanh']
