"""The display of a run: a live line and a table on a terminal, plain lines elsewhere."""

import io
import json
import re
import sys
import types

import numpy as np
import pytest
from rich.console import Console

from fixtures.commands import PROGRAM
from fixtures.runs import make
from fixtures.screen import Screen, shown_by
from gspo_rs.train import console as consoles
from gspo_rs.train.console import Display
from gspo_rs.train.curve import blocks
from gspo_rs.train.metrics import read
from gspo_rs.train.notebook import html
from gspo_rs.train.shown import cells, short
from gspo_rs.train.summary import advice, summary

# Title of a column → its metric, and what is shown of it.
COLUMNS = {
    "reward": ("reward/mean", float),
    "± dev": ("reward/std", float),
    "signal": ("group/zero_variance_frac", lambda v: 1 - v),
    "pctile": ("eval/percentile", float),
    "loss": ("loss", float),
    "entropy": ("entropy", float),
    "kl": ("kl/old_k3", float),
    "clip": ("clip/token", float),
    "tokens/s": ("speed/tokens_per_s", float),
}
WIDE = {
    "reward/mean": -123456.7,
    "reward/std": 0.000123,
    "group/zero_variance_frac": 0.0,
    "eval/percentile": 0.5,
    "loss": -1.2345e-7,
    "entropy": 11.25,
    "kl/old_k3": -1.5e-9,
    "clip/token": 1.0,
    "speed/tokens_per_s": 999_999.0,
}


def terminal(width=80, **options):
    stream = io.StringIO()
    return stream, Console(file=stream, force_terminal=True, width=width, height=24, **options)


def number(text):
    value = float(text.replace(",", "").rstrip("%"))
    return value / 100 if text.endswith("%") else value


def precision(text):
    """Half a unit in the last place that is shown."""
    digits = re.sub("[-,%]", "", text)
    mantissa, _, power = digits.partition("e")
    places = len(mantissa.partition(".")[2]) - int(power or 0) + 2 * text.endswith("%")
    return 0.5000001 * 10.0**-places


def test_without_a_terminal_a_step_is_a_plain_line():
    stream = io.StringIO()
    with Display(20, 10, Console(file=stream)) as display:
        for step in range(21):
            record = {"step": step, "reward/mean": step / 10}
            display.show(record | ({"eval/percentile": 0.5} if step == 0 else {}))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["0/20", "10/20", "20/20"]
    assert lines[1] == "step 10/20  reward 1.000  percentile 0.50"


def test_on_a_terminal_steps_scroll_as_a_table_above_a_live_line():
    stream, console = terminal()
    with Display(40, console=console) as display:
        for step in range(1, 30):
            display.show({"step": step, "reward/mean": 0.5})
        lines = Screen().feed(stream.getvalue()).lines
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows if row[1:2] == ["0.500"]] == [str(k) for k in range(1, 30)]
    assert [row for row in rows if row[:2] == ["step", "29/40"]] == [rows[-2]]
    assert sum(row[:2] == ["step", "reward"] for row in rows) == 2  # again after twenty rows


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_wraps_or_is_cut_off_at_any_width(width, encoding, tmp_path):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(file=stream, force_terminal=True, width=width, height=24)
    with Display(999_999, console=console) as display:
        for done in (0, 33, 127):
            display.report("evaluating", done, 1024)
        display.show({"step": 999_998, **WIDE})
        display.report("sampling", 1023, 1024)
        stream.flush()
        seen = Screen(width).feed(raw.getvalue().decode(encoding))
    text = " ".join(seen.lines)
    assert not seen.wrapped
    assert "…" not in text
    for shown in ("-123,457", "1.2e-04", "100%", "0.50", "-1.2e-07", "11.25", "100.0%", "999,999"):
        assert shown in text
    assert "1,023 of 1,024 completions" in text


def test_a_bar_shows_how_many_completions_are_done():
    stream, console = terminal()
    with Display(4, console=console) as display:
        display.report("sampling", 16, 64)
        last = Screen().feed(stream.getvalue()).lines[-1]
    assert last.startswith("sampling    16 of 64 completions")
    assert last.count("━") / (last.count("━") + last.count("┄")) == pytest.approx(0.25, abs=0.02)


def test_the_time_that_is_left_is_that_of_the_steps_of_this_process(monkeypatch):
    stream, console = terminal()
    now = [100.0]
    monkeypatch.setattr(consoles.time, "monotonic", lambda: now[0])
    with Display(30, console=console, first=10) as display:
        now[0] += 3700
        display.show({"step": 15, "reward/mean": 0.5})
        lines = Screen().feed(stream.getvalue()).lines
    # Five steps took 3700 s, so fifteen take 11 100.
    assert any("step 15/30  ETA 3:05:00" in line for line in lines)


@pytest.mark.parametrize("draw", range(200))
def test_a_shown_number_is_the_nearest_of_its_digits_in_eight_characters(draw):
    value = float(np.random.default_rng(draw).standard_normal() * 10.0 ** (draw % 19 - 9))
    text = short(value)
    assert len(text) <= 8
    assert abs(number(text) - value) <= precision(text)


def test_the_divergence_is_that_from_the_start_where_the_loss_has_a_penalty():
    assert cells({"kl/old_k3": 0.5})["kl"] == "0.500"
    assert cells({"kl/old_k3": 0.5, "kl/ref_k3": 0.25})["kl"] == "0.250"


def test_a_curve_has_its_highest_value_on_top_and_its_steps_in_order():
    steps = list(range(1, 241))
    lines = blocks(steps, [k / 240 for k in steps])
    heights = [sum(line[10:].ljust(60)[k] != " " for line in lines[:-1]) for k in range(60)]
    assert heights == sorted(heights)
    assert (heights[0], heights[-1]) == (1, 6)
    assert max(map(len, lines)) == 70
    # Means of four steps each.
    assert lines[0].startswith("   0.994 ")
    assert lines[5].startswith("   0.0104 ".strip().rjust(8))
    assert lines[6].split() == ["1", "240"]


def test_the_seconds_of_phases_are_those_of_the_metrics(tmp_path):
    stream = io.StringIO()
    records = [
        {"step": 1, "reward/mean": 0.0, "time/generate": 1.25, "time/backward": 2.0},
        {"step": 2, "reward/mean": 1.0, "time/generate": 2.25, "time/optimizer": 0.5},
    ]
    with Display(2, console=Console(file=stream)) as display:
        for record in records:
            display.show(record)
    display.finish(records, tmp_path)
    assert "sample 3.5  forward and backward 2.0  optimizer 0.5" in stream.getvalue()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"group/zero_variance_frac": 0.1}, None),
        ({"group/zero_variance_frac": 0.375}, "38% of groups had no signal"),
        (
            {"group/zero_variance_frac": 0.5, "group/all_best": 0.375, "passk/1": 0.75},
            "50% of groups had no signal: 38% all right (too easy)",
        ),
        (
            {"group/zero_variance_frac": 0.5, "group/all_worst": 0.5, "passk/1": 0.25},
            "50% of groups had no signal: 50% all wrong (too hard)",
        ),
        # The highest reward of a step need not be the best that there is.
        (
            {"group/zero_variance_frac": 0.5, "group/all_best": 0.5},
            "50% of groups had no signal",
        ),
        ({"length/clipped_frac": 0.25}, "25% of completions were cut off at max_completion_length"),
        ({"dropped_unscorable": 3.0}, "in 1 steps completions got no reward"),
    ],
)
def test_advice_is_given_only_where_it_holds(record, expected):
    assert advice([{"step": 1, **record}]) == ([] if expected is None else [expected])


def test_the_summary_names_what_is_there_as_it_is_typed_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run" / "checkpoint-9").mkdir(parents=True)
    text = "\n".join(summary([{"step": 9}], {}, 1.0, tmp_path / "run"))
    assert "  run/metrics.jsonl:" in text
    assert "  run/checkpoint-9:" in text
    assert "report" not in text
    (tmp_path / "run" / "completions").mkdir()
    (tmp_path / "run" / "completions" / "a.parquet").touch()
    text = "\n".join(summary([{"step": 9}], {}, 1.0, tmp_path / "run"))
    assert "  gspo-rs report run/completions --by prompt_id -o report.html" in text


@pytest.mark.slow
def test_a_terminal_of_80_columns_shows_a_run_and_the_numbers_of_its_metrics(letters, tmp_path):
    make(tmp_path, letters)
    command = [*PROGRAM, "train", "run.toml"]
    screen, code = shown_by(command, cwd=tmp_path, OMP_NUM_THREADS="1")
    assert code == 0, screen.lines
    assert not screen.wrapped
    records = read(tmp_path / "run" / "metrics.jsonl")
    rows = {line[:6].strip(): line for line in screen.lines if line[:6].strip().isdigit()}
    assert set(rows) == {str(record["step"]) for record in records}
    percentile = None
    for record in records:
        percentile = record.get("eval/percentile", percentile)
        texts = rows[str(record["step"])].split()[1:]
        for text, (metric, shown) in zip(texts, COLUMNS.values(), strict=True):
            value = {**record, "eval/percentile": percentile}.get(metric)
            if value is None:
                assert text == "-"
            else:
                assert abs(number(text) - shown(value)) <= precision(text)
    text = "\n".join(screen.lines)
    assert "run/final: the model" in text
    assert "sampling" not in text.partition("next")[2]


def test_a_quiet_run_shows_nothing_before_its_last_line(letters, tmp_path, capsys):
    from gspo_rs.train import train
    from gspo_rs.train.config.toml import load

    train(load(make(tmp_path, letters, max_steps=1, eval_size=0)), quiet=True)
    assert capsys.readouterr().out == ""


def test_a_notebook_gets_a_table_and_curves_in_place(monkeypatch, tmp_path):
    drawn = []
    handle = types.SimpleNamespace(update=drawn.append)
    module = types.ModuleType("IPython.display")
    module.HTML = str
    module.display = lambda shown, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    stream = io.StringIO()
    records = [{"step": k, "reward/mean": k / 4, "eval/percentile": 0.5} for k in range(3)]
    with Display(2, console=Console(file=stream, force_jupyter=True)) as display:
        for record in records:
            display.show(record)
        display.finish(records, tmp_path)
    assert stream.getvalue() == ""
    assert drawn[-1].count("<svg") == 2
    assert "<th>reward</th>" in drawn[-1]
    assert "<td>0.500</td>" in drawn[-1]
    assert "next" in drawn[-1]


def test_what_a_notebook_shows_is_markup_of_ours_alone():
    shown = html([{"step": 1, "reward/<b>x</b>/mean": 1.0}], title="<i>", lines=["<u>"])
    assert not re.search("<b>|<i>|<u>", shown)
    assert "reward/&lt;b&gt;x&lt;/b&gt;/mean" in shown
    assert json.dumps(shown)
