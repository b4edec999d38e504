"""Progress bars: of what takes long, on a terminal, and gone at the end."""

import io
import threading
from types import SimpleNamespace

import polars as pl
import pytest

from gspo_rs.data import progress
from gspo_rs.data.progress import counted, passes, silent, under_way


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Timer:
    """A timer that the test lets go off."""

    made = ()

    def __init__(self, seconds, function):
        self.seconds, self.go, self.running = seconds, function, False
        Timer.made = (*Timer.made, self)

    def start(self):
        self.running = True

    def cancel(self):
        self.running = False


@pytest.fixture
def terminal(monkeypatch):
    found = Terminal()
    # pytest puts its own in the place of `sys.stderr` before a test begins.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=found))
    monkeypatch.setattr(threading, "Timer", Timer)
    monkeypatch.setattr(Timer, "made", ())
    monkeypatch.setenv("TERM", "xterm")
    return found


def frames(number):
    return (pl.DataFrame({"id": [1, 2]}) for _ in range(number))


def test_what_is_over_before_the_delay_shows_nothing(terminal):
    assert len(list(counted(frames(3), "rows", 6))) == 3
    (timer,) = Timer.made
    assert (timer.seconds, timer.running) == (progress.DELAY, False)
    timer.go()  # too late
    assert terminal.getvalue() == ""


def test_a_bar_shows_what_was_done_before_it_came_and_shows_the_cursor_again(terminal):
    found = counted(frames(3), "rows", 6)
    next(found), next(found)
    Timer.made[0].go()
    assert len(list(found)) == 1
    text = terminal.getvalue()
    assert "rows" in text
    assert "6 rows" in text
    assert text.rfind("\x1b[?25l") < text.rfind("\x1b[?25h")


def test_a_note_is_shown_after_the_rows_from_when_it_is_made(terminal):
    with under_way("grading", 9) as one:
        passes.note(one, "1 timeout")
        passes.advance(one, 4)
        Timer.made[0].go()
        passes.note(one, "2 timeout")
        passes.advance(one, 5)
    text = terminal.getvalue()
    assert "9 rows" in text
    assert ", 2 timeout" in text


def test_a_pass_inside_another_is_a_second_bar_and_both_go_with_the_last(terminal):
    with under_way("ids"):
        Timer.made[0].go()
        assert [frame.height for frame in counted(frames(2), "texts", 4)] == [2, 2]
        assert passes._bars is not None
    assert passes._bars is None
    assert "ids" in terminal.getvalue()
    assert "texts" in terminal.getvalue()
    assert len(Timer.made) == 1


def test_work_that_fails_or_is_left_takes_its_bar_away(terminal):
    def failing():
        with under_way("ids"):
            Timer.made[0].go()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    found = counted(frames(3), "rows", 6)
    next(found)
    Timer.made[1].go()
    found.close()
    assert passes._bars is None
    assert passes._open == []


def test_closing_takes_all_bars_away_and_what_goes_on_shows_none(terminal):
    found = counted(frames(3), "rows", 6)
    next(found)
    Timer.made[0].go()
    passes.close()
    written = terminal.getvalue()
    assert len(list(found)) == 2
    assert terminal.getvalue() == written


def test_there_is_no_bar_off_a_terminal_nor_where_none_is_wanted(terminal, monkeypatch):
    with silent():
        list(counted(frames(2), "rows", 4))
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=io.StringIO()))
    list(counted(frames(2), "rows", 4))
    assert Timer.made == ()
