"""What native code writes to standard error before it fails, kept out of a one-line error."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Hold back what native code writes to standard error, and drop it if the command fails.

    A panic inside Polars prints its own message before it becomes an exception, which the
    command then tells in one line. What Python writes passes. When the command ends well, or in a
    traceback, everything that was held back is written. An abort, which nothing survives, still
    says that it was one.
    """
    sys.stderr.flush()
    real = os.dup(2)
    python, failed = sys.stderr, False
    held = os.memfd_create("held back")
    os.dup2(held, 2)
    try:
        with os.fdopen(os.dup(real), "w", buffering=1, errors="backslashreplace") as sys.stderr:
            faulthandler.enable(sys.stderr)
            try:
                yield
            finally:
                faulthandler.disable()
    except SystemExit as end:
        failed = end.code not in (None, 0)
        raise
    finally:
        sys.stderr = python
        os.dup2(real, 2)
        os.close(real)
        if not failed:
            os.lseek(held, 0, os.SEEK_SET)
            with os.fdopen(held, "rb") as text:
                sys.stderr.write(text.read().decode(errors="replace"))
        else:
            os.close(held)
