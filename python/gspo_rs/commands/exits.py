"""Code of others that ends the program: told, and never with the code of success."""

import os
import sys
import threading


def refuse_exits() -> None:
    """Let `os._exit` end this process no more as if its work were done.

    In the main thread it raises `SystemExit`, which whoever called the code tells as its mistake; a
    thread of its own ends the process with a word, and a code that is not 0. Processes that are
    forked from this one, as those of `multiprocessing`, end as they did.
    """
    leave, owner = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != owner:
            leave(status)
        if threading.current_thread() is threading.main_thread():
            raise SystemExit(status)
        sys.stderr.write(f"error: a thread of other code called os._exit({status})\n")
        leave(status or 1)

    os._exit = refuse  # type: ignore[assignment]
