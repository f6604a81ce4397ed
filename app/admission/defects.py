"""The last line of admission: a reader that fails in a way it should not still answers, and the fault is logged.

A file that a reader trips over does not follow its format, so the answer is that of every malformed file. That the
reader tripped is a defect of ours: each has a traceback in the log, by which it is found and mended.
"""

import lzma
import struct
import zlib
from typing import Final

DEFECTS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zlib.error,
)
"""What code raises that met another value than it counted on. Not OSError and MemoryError: those say something of the
machine, not of the file."""
