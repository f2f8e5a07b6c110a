"""What readers of untrusted files raise when a file is damaged, cut off, or packed in a way they do not know."""

from __future__ import annotations

import lzma
import struct
import tarfile
import tokenize
import zipfile
import zlib

import zstandard

# The standard library, numpy and Pillow were written for honest files: on others nearly any lookup, arithmetic or
# parsing error comes through. MemoryError is not among them: it says something about the machine.
DAMAGED: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    struct.error,
    tokenize.TokenError,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,  # an encrypted member; NotImplementedError, a compression that is not known
    SyntaxError,  # a damaged chunk of a PNG, a header of numpy's that is no Python literal
    TypeError,
    ValueError,
)
