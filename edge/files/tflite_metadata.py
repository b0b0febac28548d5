"""Add metadata to a .tflite file without copying its weights, and read metadata without unpacking the file."""

from __future__ import annotations

import struct
from typing import Any

# Fields of the schema's table Model by their number in schema.fbs. The first is a number, the others are references.
_FIELDS, _BUFFERS, _METADATA = 8, 4, 6
# Fields of the table Buffer: where its data lies, and how many bytes, if that is behind the flatbuffer.
_OFFSET, _SIZE = 1, 2
_ALIGNMENT = 64  # What weights are aligned to, at most.


def metadata_front(content: bytes | bytearray, name: str, data: bytes) -> bytearray:
    """Return what to put in front of a file's content so that the file has another entry of metadata.

    References in a flatbuffer are relative and point forward. So a new root table in front can refer to everything in
    the old content, which need not be packed again, as gigabytes of weights would have to be.

    Args:
        content: The content of a valid file. If weights are stored behind its flatbuffer, their positions are changed
            in place, because they move back; it must be a bytearray then.
        name: The name of the entry.
        data: The value of the entry.

    Returns:
        The front. Its length is a multiple of 64, so that weights stay aligned.
    """
    root = _number(content, "I", 0)
    fields = [_field(content, root, number) for number in range(_FIELDS)]
    version = _number(content, "I", fields[0]) if fields[0] else 0
    targets = [_referred(content, root, number) for number in range(_FIELDS)]
    entries, buffers = _elements(content, targets[_METADATA]), _elements(content, targets[_BUFFERS])
    text = name.encode()

    # Where each part of the front begins. A table has its list of fields, the vtable, before it.
    vtable, model, metadata_list = 8, 28, 64
    buffer_list = metadata_list + 4 * (len(entries) + 2)
    entry = buffer_list + 4 * (len(buffers) + 2) + 8
    label = entry + 12
    buffer = _multiple(4, label + 4 + len(text) + 1) + 8
    value = _multiple(16, buffer + 8 + 4) - 4
    front = bytearray(_multiple(_ALIGNMENT, value + 4 + len(data)))

    def put(position: int, form: str, *values: Any) -> None:
        struct.pack_into(f"<{form}", front, position, *values)

    def refer(position: int, target: int) -> None:
        put(position, "I", target - position)

    put(0, "I4s", model, b"TFL3")
    replaced = {_BUFFERS: buffer_list, _METADATA: metadata_list}
    present = [number for number in range(_FIELDS) if fields[number] or number in replaced]
    put(vtable, f"{2 + _FIELDS}H", 20, 36, *(4 + 4 * number if number in present else 0 for number in range(_FIELDS)))
    put(model, "iI", model - vtable, version)
    for number in present:
        if number > 0:
            refer(model + 4 + 4 * number, replaced.get(number, len(front) + targets[number]))
    for start, old, new in ((metadata_list, entries, entry), (buffer_list, buffers, buffer)):
        elements = [*(len(front) + position for position in old), new]
        put(start, "I", len(elements))
        for index, position in enumerate(elements):
            refer(start + 4 + 4 * index, position)
    put(entry - 8, "4H", 8, 12, 4, 8)
    put(entry, "iII", 8, 0, len(buffers))
    refer(entry + 4, label)
    put(label, f"I{len(text)}s", len(text), text)
    put(buffer - 8, "3H", 6, 8, 4)
    put(buffer, "i", 8)
    refer(buffer + 4, value)
    put(value, f"I{len(data)}s", len(data), data)
    for position in buffers:
        _move_back(content, position, len(front))
    return front


def read_metadata(content: bytes | bytearray) -> dict[str, bytes]:
    """Return the metadata of a valid file by name."""
    root = _number(content, "I", 0)
    entries, buffers = (_elements(content, _referred(content, root, number)) for number in (_METADATA, _BUFFERS))
    found = {}
    for entry in entries:
        position = _field(content, entry, 1)
        buffer = buffers[_number(content, "I", position) if position else 0]
        data = _vector(content, _referred(content, buffer, 0))
        where, size = (_field(content, buffer, number) for number in (_OFFSET, _SIZE))
        if not data and where and size:
            start = _number(content, "Q", where)
            data = bytes(content[start : start + _number(content, "Q", size)])
        found[_vector(content, _referred(content, entry, 0)).decode(errors="replace")] = data
    return found


def _number(content: bytes | bytearray, form: str, position: int) -> int:
    return struct.unpack_from(f"<{form}", content, position)[0]


def _field(content: bytes | bytearray, table: int, number: int) -> int:
    """Return the position of a field of a table, or 0 if the table does not have it."""
    vtable = table - _number(content, "i", table)
    slot = 4 + 2 * number
    offset = _number(content, "H", vtable + slot) if slot < _number(content, "H", vtable) else 0
    return table + offset if offset else 0


def _referred(content: bytes | bytearray, table: int, number: int) -> int:
    """Return the position of what a field of a table refers to, or 0 if the table does not have it."""
    position = _field(content, table, number)
    return position + _number(content, "I", position) if position else 0


def _vector(content: bytes | bytearray, position: int) -> bytes:
    """Return the bytes of a vector or string at a position; none if it is 0."""
    return bytes(content[position + 4 : position + 4 + _number(content, "I", position)]) if position else b""


def _elements(content: bytes | bytearray, vector: int) -> list[int]:
    """Return the positions of the tables in a vector; `vector` is 0 if there is none."""
    count = _number(content, "I", vector) if vector else 0
    return [at + _number(content, "I", at) for at in range(vector + 4, vector + 4 + 4 * count, 4)]


def _move_back(content: bytes | bytearray, buffer: int, distance: int) -> None:
    """Change where the data of a buffer lies, if that is behind the flatbuffer."""
    position = _field(content, buffer, _OFFSET)
    offset = _number(content, "Q", position) if position else 0
    if offset > 1:
        assert isinstance(content, bytearray)
        struct.pack_into("<Q", content, position, offset + distance)


def _multiple(of: int, least: int) -> int:
    """Return the smallest multiple of a number that is not less than another."""
    return -(-least // of) * of
