"""Bodies that are small on the wire and huge once inflated.

How this works: a full flush ends a block of deflate at a byte and forgets what came before, so the compressed
form of one mebibyte of zeros may be repeated: each repetition inflates to another mebibyte. A true bomb of a
gibibyte takes no longer to make than its checksum.
"""

from __future__ import annotations

import functools
import struct
import zlib
from typing import Final

MEBIBYTE: Final = 1024 * 1024
_ZEROS: Final = bytes(MEBIBYTE)
_GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"  # RFC 1952, 2.3: deflate, no name, best
_ZLIB_HEADER: Final = b"\x78\xda"  # RFC 1950, 2.2
_LAST_BLOCK: Final = b"\x03\x00"  # of deflate, and empty


@functools.cache
def gzip_bomb(mebibytes: int) -> bytes:
    """Give a body of `Content-Encoding: gzip` that inflates to so many mebibytes."""
    checksum = 0
    for _ in range(mebibytes):
        checksum = zlib.crc32(_ZEROS, checksum)
    length = mebibytes * MEBIBYTE % 2**32
    return _GZIP_HEADER + _blocks(mebibytes) + struct.pack("<II", checksum, length)


@functools.cache
def deflate_bomb(mebibytes: int) -> bytes:
    """Give a body of `Content-Encoding: deflate` that inflates to so many mebibytes."""
    checksum = 1
    for _ in range(mebibytes):
        checksum = zlib.adler32(_ZEROS, checksum)
    return _ZLIB_HEADER + _blocks(mebibytes) + struct.pack(">I", checksum)


def _blocks(mebibytes: int) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(_ZEROS) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + _LAST_BLOCK
