"""Hand-made .npz files, in which every field of the zip directory and of the headers may lie."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

STORED, DEFLATED = 0, 8


class Member(NamedTuple):
    """A member of a zip file.

    Attributes:
        name: as written in the directory.
        content: what the bytes in the file are made from.
        method: STORED, DEFLATED, or any number, which keeps the content as it is.
        claims: fields of the directory that are not those of the content.
    """

    name: bytes
    content: bytes
    method: int = STORED
    claims: Mapping[str, int] = MappingProxyType({})


def npy(array: np.ndarray) -> bytes:
    """The content of a .npy file; for objects, see `objects`."""
    array = np.asarray(array)
    if array.dtype.hasobject:
        return objects(array.shape, Path('executed'))
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def objects(shape: tuple[int, ...], folder: Path) -> bytes:
    """A .npy file of objects: a pickle, written by hand, that makes a folder when it is read."""
    return header(description(shape, '|O')) + f'cos\nmkdir\n(V{folder}\ntR.'.encode()


def header(
    text: str | bytes, version: tuple[int, int] = (1, 0), length: int | None = None
) -> bytes:
    """The beginning of a .npy file with any text as its header, and any claim of its length."""
    text = text.encode() if isinstance(text, str) else text
    length = len(text) if length is None else length
    size = struct.pack('<H' if version == (1, 0) else '<I', length)
    return b'\x93NUMPY' + bytes(version) + size + text


def description(shape: object, descr: object = '<f4', fortran_order: object = False) -> str:
    """The text of a header."""
    return repr(dict(descr=descr, fortran_order=fortran_order, shape=shape)) + '\n'


def members(arrays: dict[str, np.ndarray], method: int = STORED) -> list[Member]:
    """The honest members of a file."""
    return [Member(f'{name}.npy'.encode(), npy(array), method) for name, array in arrays.items()]


def deflate(content: bytes) -> bytes:
    """A raw deflate stream, as in zip files."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


def archive(members: list[Member], **claims: int) -> bytes:
    """The bytes of a zip file; `claims` are fields of the directory's end that are not true."""
    body, directory = bytearray(), bytearray()
    for member in members:
        data = deflate(member.content) if member.method == DEFLATED else member.content
        true = dict(
            version=20,
            flags=0,
            method=member.method,
            crc=zlib.crc32(member.content),
            packed=len(data),
            size=len(member.content),
            attributes=0,
            offset=len(body),
            extra=b'',
        )
        told = true | member.claims
        directory += b'PK\x01\x02' + struct.pack('<H', 20) + _common(told, member.name)
        directory += struct.pack('<H3H', len(told['extra']), 0, 0, 0)
        directory += struct.pack('<2I', told['attributes'], told['offset'])
        directory += member.name + told['extra']
        body += b'PK\x03\x04' + _common(told, member.name) + struct.pack('<H', 0)
        body += member.name + data
    end = dict(count=len(members), size=len(directory), offset=len(body)) | claims
    fields = 0, 0, end['count'], end['count'], end['size'], end['offset'], 0
    return bytes(body + directory) + b'PK\x05\x06' + struct.pack('<4H2IH', *fields)


def _common(told: dict[str, int], name: bytes) -> bytes:
    """What the directory says of a member and what is said again before its data."""
    fields = (told[field] for field in ('crc', 'packed', 'size'))
    return struct.pack(
        '<5H3IH', told['version'], told['flags'], told['method'], 0, 0, *fields, len(name)
    )
