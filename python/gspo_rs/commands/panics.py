"""What a library writes to standard error when it panics, kept out of a one-line error."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_panics(*, verbose: bool) -> Iterator[None]:
    """Hold back what native code writes to standard error, and drop it if the block fails.

    A panic inside Polars prints its own message before it becomes an exception, which the
    command then tells in one line. What Python writes passes. With `verbose`, or when the block
    ends well, everything that was held back is written.
    """
    sys.stderr.flush()
    real = os.dup(2)
    python, failed = sys.stderr, False
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            with os.fdopen(os.dup(real), "w", buffering=1) as sys.stderr:
                yield
        except BaseException:
            failed = True
            raise
        finally:
            sys.stderr = python
            os.dup2(real, 2)
            os.close(real)
            if verbose or not failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
