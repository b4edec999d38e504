"""Other people's code that ends the process: reported, and never with exit code 0."""

import os
import posix
import sys
import threading
from collections.abc import Callable
from typing import NoReturn


def refuse_exits() -> None:
    """Stop `os._exit` and `os.exec…` from ending this process as if its work were done.

    In the main thread they raise `SystemExit`, which the caller of that code reports as its
    mistake. In another thread they end the process with an error message and a code that is not 0.
    Processes forked from this one, such as those of `multiprocessing`, exit as before.
    """
    leave, owner = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != owner:
            leave(status)
        if threading.current_thread() is threading.main_thread():
            raise SystemExit(status)
        sys.stderr.write(f"error: a thread of other code called os._exit({status})\n")
        leave(status or 1)

    def refusing(replace: Callable[..., NoReturn]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            if os.getpid() != owner:
                replace(*arguments)
            refuse(0)

        return call

    # `os` has them from `posix`, under whose name they can be called as well.
    for module in (os, posix):
        module._exit = refuse  # type: ignore[attr-defined]
        for name in ("execv", "execve"):  # what the others of their kind call
            setattr(module, name, refusing(getattr(module, name)))
