"""Writers of the MXNet and Caffe formats, from their public definitions: the readers' counterparts."""

from __future__ import annotations

import struct

import numpy as np

MXNET_CODES = {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "b1": 7, "i2": 8}


def mxnet_bytes(arrays: dict[str, np.ndarray], layout: str = "v2", names: bool = True) -> bytes:
    """An array list; `layout` is "legacy", "v1", "v2" or "v3"."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        sizes = struct.pack(f"<{array.ndim}{'I' if layout == 'legacy' else 'q'}", *array.shape)
        heads = {
            "legacy": b"",
            "v1": struct.pack("<I", 0xF993FAC8),
            "v2": struct.pack("<Ii", 0xF993FAC9, 0),
            "v3": struct.pack("<Ii", 0xF993FACA, 0),
        }
        code = MXNET_CODES[array.dtype.str[1:]]
        parts += [heads[layout], struct.pack("<I", array.ndim), sizes, struct.pack("<iii", 1, 0, code)]
        parts.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
    parts.append(struct.pack("<Q", len(arrays) if names else 0))
    for name in arrays if names else ():
        parts += [struct.pack("<Q", len(name.encode())), name.encode()]
    return b"".join(parts)


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, legacy: bool = False, packed: bool = True) -> bytes:
    values = array.flatten()
    if array.dtype == np.float64:
        data = field(8, values.astype("<f8").tobytes())
    elif packed:
        data = field(5, values.astype("<f4").tobytes())
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", value) for value in values)
    if legacy:
        sizes = (1,) * (4 - array.ndim) + array.shape
        return b"".join(field(index, size) for index, size in enumerate(sizes, 1)) + data
    return data + field(7, field(1, b"".join(varint(size) for size in array.shape)))


def caffe_bytes(
    layers: dict[str, tuple[str | int, list[np.ndarray]]], legacy: bool = False, packed: bool = True
) -> bytes:
    """A network of `name -> (type, blobs)`; `legacy` writes the older `layers` with four sizes a blob."""
    name_field, type_field, blob_field = (4, 5, 6) if legacy else (1, 2, 7)
    network = field(1, b"a network")
    for name, (kind, arrays) in layers.items():
        content = field(name_field, name.encode())
        content += field(type_field, kind.encode() if isinstance(kind, str) else kind)
        content += b"".join(field(blob_field, blob(array, legacy, packed)) for array in arrays)
        network += field(2 if legacy else 100, content)
    return network
