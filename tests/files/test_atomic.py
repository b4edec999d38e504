"""What is written aside and put in place: old or new is whole at every step, and nothing else."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gspo_rs.files import atomic, replacement, temporary

WRITERS = {"file": atomic.file, "directory": atomic.directory}


def put(kind, target, text, **options):
    """Write `text` as a file, or as the file `a` of a folder."""
    with WRITERS[kind](target, **options) as partial:
        (partial if kind == "file" else partial / "a").write_text(text)


def text_of(kind, target):
    return (target if kind == "file" else target / "a").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "kill"])
def test_ctrl_c_and_kill_at_any_step_leave_old_or_new_whole(tmp_path, how):
    program = Path(__file__).with_name("stopped_writes.py")
    command = [sys.executable, str(program), str(tmp_path), how]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    steps = dict(line.split() for line in found.stdout.splitlines())
    assert len(steps) == 4
    assert all(int(number) > 20 for number in steps.values())


@pytest.mark.parametrize("kind", WRITERS)
def test_a_planted_link_is_not_written_through(tmp_path, kind):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / ".partial-out").symlink_to(precious)
    (tmp_path / ".partial-12345678.gspo-rs").symlink_to(tmp_path / "nowhere")
    put(kind, tmp_path / "out", "new")
    atomic.sweep(tmp_path)
    assert precious.read_text() == "mine"
    assert (tmp_path / ".partial-out").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".partial-12345678.gspo-rs",
        ".partial-out",
        "out",
        "precious",
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_half_written_has_another_name_each_time_and_is_open_to_nobody(tmp_path, kind):
    names = set()
    for _ in range(3):
        with WRITERS[kind](tmp_path / "out") as partial:
            (partial if kind == "file" else partial / "a").write_text("x")
            names.add(partial.parent.name)
            assert stat.S_IMODE(partial.parent.stat().st_mode) == 0o700
    assert len(names) == 3


def test_only_what_nobody_holds_is_swept(tmp_path):
    with temporary.aside(tmp_path) as held:
        (held / "a").write_text("being written")
        left = tmp_path / ".partial-abcdefgh.gspo-rs"
        left.mkdir()
        (left / "a").write_text("left by a killed run")
        others = tmp_path / ".partial-download"
        others.mkdir()
        atomic.sweep(tmp_path)
        assert (held / "a").read_text() == "being written"
        assert not left.exists()
        assert others.is_dir()


def test_a_sweeper_that_comes_before_the_lock_makes_the_writer_begin_again(tmp_path, monkeypatch):
    locked, swept = temporary.try_lock, []

    def late(folder, flags, *, needed=True):
        if not needed and not swept:
            swept.append(folder)
            atomic.sweep(tmp_path)
        return locked(folder, flags, needed=needed)

    monkeypatch.setattr(temporary, "try_lock", late)
    put("file", tmp_path / "out", "new")
    assert len(swept) == 1
    assert text_of("file", tmp_path / "out") == "new"


@pytest.mark.parametrize("kind", WRITERS)
def test_two_writers_at_once_never_leave_a_mixture(tmp_path, kind):
    target = tmp_path / "out"
    with WRITERS[kind](target) as one, WRITERS[kind](target) as other:
        for partial, text in ((one, "one"), (other, "other")):
            (partial if kind == "file" else partial / "a").write_text(text)
            (partial if kind == "file" else partial / text).write_text(text)
    assert text_of(kind, target) == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    if kind == "directory":
        assert sorted(path.name for path in target.iterdir()) == ["a", "one"]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_appears_meanwhile_is_not_replaced_without_overwrite(tmp_path, kind):
    target = tmp_path / "out"

    def late():
        with WRITERS[kind](target, overwrite=False) as partial:
            (partial if kind == "file" else partial / "a").write_text("late")
            put(kind, target, "early")

    with pytest.raises(FileExistsError, match=r"another process has written .*out meanwhile"):
        late()
    assert text_of(kind, target) == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_links_a_new_file_is_renamed_and_still_replaces_nothing(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    put("file", tmp_path / "out", "new", overwrite=False)
    assert text_of("file", tmp_path / "out") == "new"
    with pytest.raises(FileExistsError):
        put("file", tmp_path / "out", "newer", overwrite=False)
    assert text_of("file", tmp_path / "out") == "new"


@pytest.fixture
def umask():
    """Set the umask of the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("private", [0o700, 0o750, 0o777])
def test_modes_of_what_is_replaced_are_kept(tmp_path, umask, kind, private):
    target = tmp_path / "out"
    put(kind, target, "old")
    inside = target if kind == "file" else target / "a"
    inside.chmod(private & 0o666)
    if kind == "directory":
        target.chmod(private)
    put(kind, target, "new")
    assert text_of(kind, target) == "new"
    assert mode(inside) == private & 0o666
    if kind == "directory":
        assert mode(target) == private


def test_modes_of_what_is_new_follow_the_umask(tmp_path, umask):
    for mask, of_file, of_folder in ((0o022, 0o644, 0o755), (0o077, 0o600, 0o700)):
        umask(mask)
        put("file", tmp_path / f"f{mask}", "new")
        put("directory", tmp_path / f"d{mask}", "new")
        assert mode(tmp_path / f"f{mask}") == of_file
        assert mode(tmp_path / f"d{mask}") == of_folder
        assert mode(tmp_path / f"d{mask}" / "a") == of_file


@pytest.mark.parametrize(("before", "after"), [(0o640, 0o600), (0o664, 0o644), (0o777, 0o777)])
def test_bits_of_a_group_that_cannot_be_kept_are_given_to_no_other(
    tmp_path, monkeypatch, before, after
):
    (tmp_path / "new").touch()
    own = (tmp_path / "new").stat()
    old = SimpleNamespace(st_mode=0o100000 | before, st_uid=own.st_uid, st_gid=own.st_gid + 1)

    def refused(*_):
        raise PermissionError(errno.EPERM, "not your group")

    monkeypatch.setattr(os, "fchown", refused)
    with (tmp_path / "new").open() as file:
        replacement._take_mode(file.fileno(), old)
    assert mode(tmp_path / "new") == after


@pytest.mark.parametrize("kind", WRITERS)
def test_a_link_stays_and_what_it_points_at_is_replaced(tmp_path, kind):
    (tmp_path / "store").mkdir()
    put(kind, tmp_path / "store" / "real", "old")
    (tmp_path / "out").symlink_to(Path("store") / "real")
    put(kind, tmp_path / "out", "new")
    assert (tmp_path / "out").readlink() == Path("store") / "real"
    assert text_of(kind, tmp_path / "store" / "real") == "new"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["real"]
    (tmp_path / "dangling").symlink_to("later")
    put(kind, tmp_path / "dangling", "new")
    assert text_of(kind, tmp_path / "later") == "new"


def test_links_that_point_at_each_other_and_other_things_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="links point at each other"):
        put("file", tmp_path / "a", "new")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        put("file", tmp_path / "pipe", "new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        put("file", tmp_path / "folder", "new")
    (tmp_path / "file").write_text("old")
    with pytest.raises(NotADirectoryError):
        put("directory", tmp_path / "file", "new")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_mount_point_is_refused_before_the_work(tmp_path, monkeypatch, kind):
    """The kernel says what is mounted where in a file of lines, which escape blanks."""
    target = tmp_path / "a b" / "out"
    target.parent.mkdir()
    put(kind, target, "old")
    lines = tmp_path / "mountinfo"
    place = str(target).replace(" ", r"\040")
    lines.write_text(f"36 35 98:0 /x {place} rw,noatime master:1 - ext3 /dev/root rw\n")
    monkeypatch.setattr(replacement, "_MOUNTS", lines)
    entered = []

    def late():
        with WRITERS[kind](target):
            entered.append(1)

    with pytest.raises(OSError, match=r"out is a mount point, which can't be replaced; name a"):
        late()
    assert not entered
    assert text_of(kind, target) == "old"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_cannot_exchange_is_refused_before_the_work(
    tmp_path, monkeypatch, number
):
    target = tmp_path / "out"

    def unknown(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(replacement, "exchange", unknown)
    monkeypatch.setattr(atomic, "exchange", unknown)
    put("directory", target, "new")  # replaces nothing, so needs no exchange
    with pytest.raises(OSError, match="can't exchange a folder for another at once; remove it"):
        put("directory", target, "newer")
    put("file", tmp_path / "file", "old")
    put("file", tmp_path / "file", "new")  # a rename is enough for a file
    assert (text_of("directory", target), text_of("file", tmp_path / "file")) == ("new", "new")


def test_a_file_system_without_locks_is_written_to_and_not_swept(tmp_path, monkeypatch):
    left = tmp_path / ".partial-abcdefgh.gspo-rs"
    left.mkdir()

    def unsupported(*_):
        raise OSError(errno.EOPNOTSUPP, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    put("directory", tmp_path / "out", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "out"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_failure_leaves_what_was_there_and_a_name_of_250_bytes_is_written(tmp_path, kind):
    target = tmp_path / ("n" * 250)
    put(kind, target, "old")

    def fail():
        with WRITERS[kind](target) as partial:
            (partial if kind == "file" else partial / "a").write_text("new")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert text_of(kind, target) == "old"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_of_a_folder_that_is_removed_a_link_alone_goes(tmp_path):
    put("directory", tmp_path / "real", "x")
    (tmp_path / "link").symlink_to("real")
    atomic.remove(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["real"]
    atomic.remove(tmp_path / "real")
    atomic.remove(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []
