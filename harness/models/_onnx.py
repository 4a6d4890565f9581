"""Reads the weights of an ONNX file without a library; nothing in the file is executed.

An ONNX file is a message of protocol buffers (protobuf.dev/programming-guides/encoding): a list of fields, each with a
number and a value. Only the initialisers of the graph are read; onnx.proto defines the numbers of the fields.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

VARINT, BYTES_8, LENGTH, BYTES_4 = 0, 1, 2, 5  # the encodings of a field's value
GRAPH_FIELD, INITIALISER_FIELD = 7, 5  # the graph of the model, and an initialiser of the graph
DIMENSIONS, KIND, NAME, RAW = 1, 2, 8, 9  # fields of an initialiser
FLOAT_KIND, WHOLE_KIND = 1, 7  # the kinds of float32 and int64 tensors


def initialisers(content: bytes) -> dict[str, Tensor]:
    """The float32 initialisers of an ONNX file by name, without whole numbers such as the shape of a reshaping;
    ValueError for an incomplete file and other initialisers."""
    weights = {}
    for graph in _values_of(memoryview(content), GRAPH_FIELD):
        for message in _values_of(graph, INITIALISER_FIELD):
            fields = list(_fields(message))
            if dict(fields).get(KIND) != WHOLE_KIND:
                name, tensor = _initialiser(fields)
                weights[name] = tensor
    return weights


def _initialiser(fields: list[tuple[int, int | memoryview]]) -> tuple[str, Tensor]:
    last = dict(fields)
    name = bytes(last.get(NAME, b"")).decode()
    raw, kind = last.get(RAW, b""), last.get(KIND)
    shape = [size for number, value in fields if number == DIMENSIONS for size in _numbers_of_field(value)]
    if kind != FLOAT_KIND or len(raw) != 4 * math.prod(shape):
        raise ValueError(f"initialiser {name!r} is of kind {kind} with {len(raw)} bytes, expected float32 {shape}")
    return name, torch.frombuffer(bytearray(raw), dtype=torch.float32).view(shape)


def _values_of(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(message) if number == wanted)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message in their order: their number, and their value, a whole number or bytes."""
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
            raise ValueError(f"field {number} has an encoding ({kind}) that ONNX files do not use")
        if place + size > len(message):
            raise ValueError(f"the file is cut short: field {number} has {len(message) - place} of {size} bytes")
        yield number, message[place : place + size]
        place += size


def _numbers_of_field(value: int | memoryview) -> list[int]:
    """The whole numbers of a field: one, or several that are packed together."""
    if isinstance(value, int):
        return [value]
    numbers, place = [], 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(number)
    return numbers


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The whole number at ``place``, 7 bits per byte with the lowest first, and the place behind it."""
    value, shift = 0, 0
    while place < len(message) and shift < 70:
        byte = message[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("the file is cut short, or is no ONNX file: a number does not end")
