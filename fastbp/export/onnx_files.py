"""ONNX files as arrays, nodes and names: read with care, since they may come from anywhere."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import checked_path, directory_error, open_regular
from .onnx_functions import DOMAIN, FUNCTIONS, function
from .onnx_writing import import_onnx
from .steps import Node, NotReadable

if TYPE_CHECKING:
    from os import PathLike

    from ..kernels.types import Array

__all__ = ["Graph", "read_graph"]


@dataclass
class Graph:
    """What a file holds.

    Attributes
    ----------
    inputs : dict of str to (dtype name, shape)
        Those that are no constants; None in a shape stands for a size that is not given.
    outputs : list of str
    nodes : list of Node
        In order.
    constants : dict of str to ndarray
    n_bytes : int
        Size of the file, and of files beside it that it refers to.
    """

    inputs: dict[str, tuple[str, list[int | None]]]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Array]
    n_bytes: int


def read_graph(path: str | PathLike[str]) -> Graph:
    """Read an ONNX file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    Graph

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    FileNotFoundError, IsADirectoryError
        If there is no file at the path.
    NotReadable
        If it is no ONNX file, or one with what cannot be read; the message says what.
    """
    onnx = import_onnx()
    path = checked_path("path", path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path: there is no file {path!r}")
    if os.path.isdir(path):
        raise directory_error(path)
    try:
        with open_regular(path, "rb") as file:
            content = file.read()
    except ValueError as error:
        raise NotReadable(str(error)) from None
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise NotReadable(f"it is not an ONNX file, or a damaged one ({error})") from None
    return _Reader(onnx, proto, os.path.dirname(os.path.abspath(path)), len(content)).graph()


class _Reader:
    """Turns protobuf's objects into plain ones."""

    def __init__(self, onnx: Any, proto: Any, folder: str, n_bytes: int) -> None:
        self.onnx, self.proto, self.folder, self.n_bytes = onnx, proto, folder, n_bytes
        kinds = onnx.TensorProto
        # The dtype of each type of tensor, and the field in which its numbers may be.
        self.kinds = {
            kinds.FLOAT: ("<f4", "float_data"), kinds.DOUBLE: ("<f8", "double_data"),
            kinds.INT64: ("<i8", "int64_data"), kinds.INT32: ("<i4", "int32_data"),
            kinds.BOOL: ("|b1", "int32_data")}

    def graph(self) -> Graph:
        """The graph of the file."""
        proto = self.proto.graph
        if not proto.node:
            raise NotReadable("it has no graph with nodes")
        self._check_functions()
        constants = {each.name: self.array(each) for each in proto.initializer
                     if each.data_type != self.onnx.TensorProto.STRING}
        if proto.sparse_initializer:
            raise NotReadable("it has sparse arrays; store them as dense ones")
        inputs = {each.name: self._input(each) for each in proto.input
                  if each.name not in constants}
        nodes = [self._node(i, each) for i, each in enumerate(proto.node)]
        return Graph(inputs, [each.name for each in proto.output], nodes, constants, self.n_bytes)

    def _check_functions(self) -> None:
        """Functions of fastbp's are known by their names, so they must be what fastbp writes."""
        for each in self.proto.functions:
            if each.domain != DOMAIN:
                continue
            opset = next((one.version for one in each.opset_import if one.domain == ""), 0)
            if each.name not in FUNCTIONS or each.SerializeToString(
                    deterministic=True) != function(self.onnx, each.name, opset).SerializeToString(
                    deterministic=True):
                raise NotReadable(f"its function {each.name} is not the one that fastbp writes")

    def _input(self, proto: Any) -> tuple[str, list[int | None]]:
        tensor = proto.type.tensor_type
        if tensor.elem_type not in self.kinds:
            raise NotReadable(f"its input {proto.name!r} has type {tensor.elem_type}, expected "
                              f"float32, float64 or whole numbers")
        dtype = np.dtype(self.kinds[tensor.elem_type][0])
        shape = [each.dim_value if each.HasField("dim_value") and each.dim_value > 0 else None
                 for each in tensor.shape.dim]
        return dtype.name, shape

    def _node(self, index: int, proto: Any) -> Node:
        domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}."
        op = f"{domain}{proto.op_type}"
        where = f"node {index} ({op}{f', {proto.name!r}' if proto.name else ''})"
        attributes = {each.name: self._attribute(each, where) for each in proto.attribute}
        return Node(op, list(proto.input), list(proto.output), attributes, where)

    def _attribute(self, proto: Any, where: str) -> Any:
        kinds = self.onnx.AttributeProto
        if proto.type == kinds.FLOAT:
            return float(proto.f)
        if proto.type == kinds.INT:
            return int(proto.i)
        if proto.type == kinds.STRING:
            return proto.s.decode("utf-8", "replace")
        if proto.type == kinds.FLOATS:
            return [float(each) for each in proto.floats]
        if proto.type == kinds.INTS:
            return [int(each) for each in proto.ints]
        if proto.type == kinds.TENSOR and proto.t.data_type in self.kinds:
            return self.array(proto.t)
        return None  # which only the operators that are refused have

    def array(self, proto: Any) -> Array:
        """An array, if the file has all of its numbers and no more."""
        if proto.data_type not in self.kinds:
            raise NotReadable(f"its array {proto.name!r} has type {proto.data_type}, expected "
                              f"float32, float64 or whole numbers")
        dtype, field = self.kinds[proto.data_type]
        shape = tuple(proto.dims)
        if any(size < 0 for size in shape) or len(shape) > 8:
            raise NotReadable(f"its array {proto.name!r} has shape {shape}")
        size = math.prod(shape)
        if proto.data_location == self.onnx.TensorProto.EXTERNAL:
            raw = self._external(proto, size * np.dtype(dtype).itemsize)
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
        else:
            numbers = getattr(proto, field)
            if len(numbers) != size:
                raise NotReadable(f"its array {proto.name!r} of shape {shape} has {len(numbers)} "
                                  f"numbers")
            return np.array(numbers, dtype).reshape(shape)
        if len(raw) != size * np.dtype(dtype).itemsize:
            raise NotReadable(f"its array {proto.name!r} of shape {shape} has {len(raw)} bytes")
        return np.frombuffer(raw, dtype).reshape(shape).astype(np.dtype(dtype).newbyteorder("="))

    def _external(self, proto: Any, n_bytes: int) -> bytes:
        """Numbers that are in another file, in the same folder."""
        about = {each.key: each.value for each in proto.external_data}
        name = about.get("location", "")
        if not name or name != os.path.basename(name) or name in (".", ".."):
            raise NotReadable(f"its array {proto.name!r} is in the file {name!r}, expected one in "
                              f"the same folder")
        try:
            offset = int(about.get("offset", "0"))
            with open_regular(os.path.join(self.folder, name), "rb") as file:
                length = os.fstat(file.fileno()).st_size
                if offset < 0 or offset + n_bytes > length:
                    raise NotReadable(f"its array {proto.name!r} is beyond the end of {name!r}")
                file.seek(offset)
                content: bytes = file.read(n_bytes)
        except OSError as error:
            raise NotReadable(f"its array {proto.name!r} is in the file {name!r}, which cannot be "
                              f"read: {error.strerror}") from None
        self.n_bytes += n_bytes
        return content
