"""The protobuf wire format: numbered fields, without a schema.

A message is a row of fields. Each starts with a varint of 8 x field number + kind of value.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum


class Kind(IntEnum):
    """How the value of a field is stored."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


def fields(message: memoryview) -> Iterator[tuple[int, Kind, int | memoryview]]:
    """Field number, kind and value of each field: an integer for `VARINT`, otherwise its bytes, not copied.

    Raises:
        ValueError: the message ends in the middle of a field, or is not protobuf.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        try:
            kind = Kind(tag & 7)
        except ValueError:
            raise ValueError(f"unknown protobuf wire type {tag & 7}") from None
        if kind is Kind.VARINT:
            number, position = _varint(message, position)
            yield tag >> 3, kind, number
            continue
        if kind is Kind.BYTES:
            length, position = _varint(message, position)
        else:
            length = 4 if kind is Kind.FIXED32 else 8
        if position + length > len(message):
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, kind, message[position : position + length]
        position += length


def packed_integers(message: memoryview, field: int) -> list[int]:
    """The integers of a repeated field, packed or one by one."""
    integers: list[int] = []
    for number, _, value in fields(message):
        if number != field:
            continue
        if isinstance(value, int):
            integers.append(value)
            continue
        position = 0
        while position < len(value):
            integer, position = _varint(value, position)
            integers.append(integer)
    return integers


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 64, 7):
        if position >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    # shift 63 is the tenth byte, the longest a 64-bit number takes
    raise ValueError("a protobuf number is too long")
