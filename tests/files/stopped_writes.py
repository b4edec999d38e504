"""A program: stops each way of writing at each line of it, and looks at what is there then.

Usage: stopped_writes.py FOLDER raise|kill. Prints the number of lines of each way.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from gspo_rs.files import atomic, replacement, temporary

OLD, NEW = "old" * 500, "new" * 700
OURS = {module.__file__ for module in (temporary, atomic, replacement)}
# An exception between two lines of `shutil` becomes another one there; a kill does not.
WATCHED = {"raise": OURS, "kill": OURS | {shutil.__file__}}


def write_file(target):
    with atomic.file(target) as partial:
        partial.write_text(NEW)


def write_directory(target):
    with atomic.directory(target) as partial:
        for name in ("a", "b"):
            (partial / name).write_text(NEW)


def put_directory(target):
    """As scoring does, which has a folder of its own for what it can take up again."""
    new = target.with_name("new")
    shutil.copytree(target, new)
    for name in ("a", "b"):
        (new / name).write_text(NEW)
    atomic.put_directory(new, target, overwrite=True)


WAYS = {
    "file": (False, write_file),
    "directory": (True, write_directory),
    "put_directory": (True, put_directory),
    "remove": (True, atomic.remove),
}


def content(target):
    """What the target holds: one text, however many files, or None if it is not there."""
    if not target.exists():
        return None
    files = [target] if target.is_file() else [target / "a", target / "b"]
    (text,) = {file.read_text() for file in files}
    return text


def stop_at(step, how):
    """Stop this process when it is about to take the line number `step` of those watched."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename not in WATCHED[how]:
            return None
        lines += event == "line"
        if event == "line" and lines == step:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)


def prepare(folder, *, is_directory):
    folder.mkdir()
    target = folder / "out"
    if is_directory:
        target.mkdir()
        for name in ("a", "b"):
            (target / name).write_text(OLD)
    else:
        target.write_text(OLD)
    return target


def stopped(target, write, step, how):
    """Write in a child that is stopped at a step; tell whether it came to its end before."""
    child = os.fork()
    if child == 0:
        try:
            stop_at(step, how)
            write(target)
            sys.settrace(None)
        except KeyboardInterrupt:
            os._exit(3)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 3, -signal.SIGKILL), code
    return code == 0


def check(folder, name, how):
    """Stop one way of writing at every step."""
    is_directory, write = WAYS[name]
    after = None if name == "remove" else NEW
    found, step, ended = set(), 0, False
    while not ended:
        step += 1
        place = folder / f"{name}{step}"
        target = prepare(place, is_directory=is_directory)
        ended = stopped(target, write, step, how)
        assert content(target) in (OLD, after), (name, step)
        found.add(content(target))
        # Nobody holds what was left: it goes, and the work can be done again.
        shutil.rmtree(place / "new", ignore_errors=True)
        if target.exists():
            write(target)
        atomic.sweep(place)
        shutil.rmtree(place / "new", ignore_errors=True)
        assert content(target) == after
        assert [path.name for path in place.iterdir()] == (["out"] if after else []), (name, step)
        shutil.rmtree(place)
    assert found == {OLD, after}
    return step


if __name__ == "__main__":
    # A killed process loses nothing that it wrote: only a machine does. It takes long to wait for.
    os.fsync = lambda handle: None
    for way in WAYS:
        sys.stdout.write(f"{way} {check(Path(sys.argv[1]), way, sys.argv[2])}\n")
