"""Inspects an untrusted ONNX file without running it.

Only the parts that decide whether the file may be run are parsed: its operators, and the files of its weights. The
format is protobuf's (https://protobuf.dev/programming-guides/encoding), and field numbers are those of onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from mmsearch.files import open_regular

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_REFUSED = ("EPContext",)
"""Operators that read further files."""
_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of a model
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # of a graph
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of a node
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS, _SPARSE, _SPARSES = 5, 6, 10, 11, 22, 23  # of an attribute
_EXTERNAL = 13  # of a tensor
_KEY, _VALUE = 1, 2  # of an entry


def external_files(file: Path) -> set[str]:
    """Return the names of the external files of a model's weights.

    Raises `ValueError` for a file that isn't a model, and for a model with loops, branches, functions of its own or
    operators that aren't onnxruntime's: no tower has these. Raises `OSError`.
    """
    with open_regular(file) as opened:
        if not opened.peek(1):
            raise ValueError("it is empty")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            names: set[str] = set()
            graphs = 0
            for number, value in _fields(content):
                with value:
                    if number in (_TRAINING, _FUNCTIONS):
                        raise ValueError("it holds functions or training information of its own")
                    if number == _GRAPH:
                        graphs += 1
                        names |= _files_of_graph(value)
    if not graphs:
        raise ValueError("it holds no graph")
    return names


def _files_of_graph(graph: memoryview) -> set[str]:
    names: set[str] = set()
    for number, value in _fields(graph):
        with value:
            if number == _NODE:
                names |= _files_of_node(value)
            elif number == _INITIALIZER:
                names |= _files_of_tensor(value)
            elif number == _SPARSE_INITIALIZER:
                raise ValueError("it holds sparse weights")
    return names


def _files_of_node(node: memoryview) -> set[str]:
    names: set[str] = set()
    for number, value in _fields(node):
        with value:
            if number == _OP_TYPE and _text(value) in _REFUSED:
                raise ValueError(f"it uses the operator {_text(value)}")
            if number == _DOMAIN and _text(value) not in _DOMAINS:
                raise ValueError(f"it uses operators of {_text(value)[:60]!r}, which onnxruntime doesn't have")
            if number == _ATTRIBUTE:
                names |= _files_of_attribute(value)
    return names


def _files_of_attribute(attribute: memoryview) -> set[str]:
    names: set[str] = set()
    for number, value in _fields(attribute):
        with value:
            if number in (_SUBGRAPH, _SUBGRAPHS):
                raise ValueError("it holds loops or branches, which no tower needs")
            if number in (_SPARSE, _SPARSES):
                raise ValueError("it holds sparse weights")
            if number in (_TENSOR, _TENSORS):
                names |= _files_of_tensor(value)
    return names


def _files_of_tensor(tensor: memoryview) -> set[str]:
    names: set[str] = set()
    for number, value in _fields(tensor):
        with value:
            if number == _EXTERNAL:
                entry = {key: _text(part) for key, part in _fields(value) if key in (_KEY, _VALUE)}
                if entry.get(_KEY) == "location":
                    names.add(entry.get(_VALUE, ""))
    return names


def _text(value: memoryview) -> str:
    return bytes(value[:4096]).decode("utf-8", "replace")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the content of every field of a message; the content is empty for scalar fields."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        size = 0
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                size = 8
            case 2:
                size, at = _varint(message, at)
            case 5:
                size = 4
            case _:
                raise ValueError("it is no ONNX model")
        if at + size > end:
            raise ValueError("it is cut off, or no ONNX model")
        yield key >> 3, message[at : at + (size if key & 7 == 2 else 0)]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is cut off, or no ONNX model")
