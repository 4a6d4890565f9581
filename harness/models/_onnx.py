"""The weights of an ONNX file, read as the plain fields they are: no library is needed and nothing in it runs.

An ONNX file is one message of protocol buffers (protobuf.dev/programming-guides/encoding): fields, each a number and a
value. Of all it holds, only the initialisers of the graph are looked at, as onnx.proto numbers them.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

VARINT, BYTES_8, LENGTH, BYTES_4 = 0, 1, 2, 5  # how the value of a field is written
GRAPH, INITIALISER = 7, 5  # the graph in the model, and one initialiser in the graph
DIMENSIONS, KIND, NAME, RAW = 1, 2, 8, 9  # in an initialiser
FLOAT = 1


def initialisers(content: bytes) -> dict[str, Tensor]:
    """The float32 initialisers of an ONNX file by name; ValueError where it is cut short or writes them otherwise."""
    found = {}
    for graph in _all(memoryview(content), GRAPH):
        for message in _all(graph, INITIALISER):
            name, tensor = _tensor(message)
            found[name] = tensor
    return found


def _tensor(message: memoryview) -> tuple[str, Tensor]:
    fields = list(_fields(message))
    last = dict(fields)
    name = bytes(last.get(NAME, b"")).decode()
    raw, kind = last.get(RAW, b""), last.get(KIND)
    shape = [size for number, value in fields if number == DIMENSIONS for size in _numbers(value)]
    if kind != FLOAT or len(raw) != 4 * math.prod(shape):
        raise ValueError(f"initialiser {name!r} is of kind {kind} with {len(raw)} bytes, expected float32 {shape}")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).view(shape)


def _all(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(message) if number == wanted)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in their order: number and value, a whole number or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == LENGTH:
            size, place = _varint(message, place)
        elif kind in (BYTES_8, BYTES_4):
            size = 8 if kind == BYTES_8 else 4
        else:
            raise ValueError(f"field {number} is written in a way ({kind}) that ONNX files do not use")
        if place + size > len(message):
            raise ValueError(f"the file is cut short: field {number} has {len(message) - place} of {size} bytes")
        yield number, message[place : place + size]
        place += size


def _numbers(value: int | memoryview) -> list[int]:
    """Whole numbers that are one field each, or packed into one."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
    return numbers


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A whole number in 7 bits a byte, the lowest first, and the place behind it."""
    value, shift = 0, 0
    while place < len(message) and shift < 70:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("the file is cut short, or is no ONNX file: a number has no end")
