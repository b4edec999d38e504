"""The report as a page: what it says of real files, what hostile texts can't do to it, its size."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from gspo_rs.report import report

VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """The text of a page, its elements, and whether they nest."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts, self._open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page_of(frame, tmp_path, **options):
    return Page(
        report(frame, tmp_path / "report.html", **{"by": "id", "overwrite": True, **options})
    )


@pytest.fixture(scope="module")
def easy(shared, tmp_path_factory):
    path = tmp_path_factory.mktemp("easy") / "report.html"
    return Page(report(shared / "data/rg_easy.parquet", path, by="prompt_id"))


def per_cent(part, whole):
    return f"{round(100 * part / whole, 1):g} %"


@pytest.mark.slow
def test_a_page_of_a_real_file_says_what_polars_counts_in_it(shared, easy):
    frame = pl.read_parquet(shared / "data/rg_easy.parquet")
    groups = frame.group_by("prompt_id").agg(
        pl.len(), distinct=pl.col("reward").n_unique(), counts=pl.col("reward").value_counts()
    )
    silent = groups.filter(pl.col("distinct") == 1).height
    assert f"{per_cent(silent, groups.height)} of the groups have no signal" in easy.text
    # The file's README counts the same 1,735 groups by another way.
    assert silent == 1735
    copies = frame.height - frame.n_unique(["prompt_id", "response"])
    assert f"{per_cent(copies, frame.height)} of the completions repeat another" in easy.text
    sets = frame.group_by("prompt_id", "response").agg(pl.len(), pl.col("reward").n_unique())
    again = sets.filter(pl.col("len") > 1)
    contradicted = again.filter(pl.col("reward") > 1).height
    assert f"{contradicted:,} of {again.height:,} repeated completions got" in easy.text
    total = frame["reward"].var(ddof=0)
    within = frame.select((pl.col("reward") - pl.col("reward").mean().over("prompt_id")) ** 2)
    share = per_cent(within.to_series().mean(), total)
    assert f"{share} of the variance of rewards lies within groups" in easy.text
    assert f"rollouts 136,900 groups {groups.height:,} mean reward 0.542" in easy.text


def test_a_page_of_a_real_file_ranks_its_models_as_polars_does(shared, tmp_path):
    path, by = shared / "data/wildbench_judge10.parquet", ["prompt_id", "judge"]
    page = Page(report(path, tmp_path / "report.html", by=by))
    share = (pl.col("reward").rank() - 1) / (pl.len() - 1)
    means = (
        pl.read_parquet(path)
        .with_columns(p=share.over(by))
        .group_by(*by, "source")
        .agg(pl.col("p").mean())
        .group_by("source")
        .agg(pl.col("p").mean(), error=pl.col("p").std() / pl.len().sqrt())
        .sort("p", descending=True)
    )
    for name, mean, error in means.iter_rows():
        assert f"{name}: {mean:.3g} ± {error:.3g}" in page.text
    best, mean = means.row(0)[:2]
    assert f"A completion of {best} beats {per_cent(mean, 1)} of the others" in page.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "by", "words"),
    [
        ("qwen_math_rm8", "prompt_id", "no group compares two values of source"),
        ("tot_game24_200", "prompt_id", "Pass at k"),
        ("llama3b_amc_aime50", "prompt_id", "Pass at k"),
        ("gsm8k_solutions4", "prompt_id", "all wrong"),
        ("rg_policy3", ["source", "prompt_id"], "Left out: source is part of the group's id; name"),
        ("wmt21_ted_zhen_mqm", "prompt_id", "4,710 of 12,645 rows (37.2 %) have a reward of null"),
    ],
)
def test_every_real_file_gives_a_page_of_less_than_half_a_megabyte(
    shared, tmp_path, name, by, words
):
    path = report(shared / f"data/{name}.parquet", tmp_path / "report.html", by=by)
    assert path.stat().st_size < 500_000
    assert words in Page(path).text


HOSTILE = [
    "<script>document.title='owned'</script>",
    "</pre></body></html><img src=x onerror=alert(1)>",
    '"><a href="javascript:alert(1)">x</a><iframe src="https://example.org"></iframe>',
    "<style>body{display:none}</style><link rel=stylesheet href=//example.org/a.css>",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "]]><!-- <base href='https://example.org/'>",
    "\x00\x01\x1b[31m\x7f null and \u202edrah\u2066",
    "👩‍👩‍👧 é \ufffe 汉字 العربية",
    "",
]


@pytest.fixture
def hostile():
    rows = [
        {"id": f"{text}#{group}", "prompt": text, "completion": text, "model": text, "reward": r}
        for text in HOSTILE
        for group in range(4)
        for r in (0.0, 1.0, None)
    ]
    return pl.DataFrame(rows).rename({"reward": '<b onclick="x">'})


def test_hostile_texts_are_shown_and_not_obeyed(hostile, tmp_path):
    page = page_of(hostile, tmp_path, reward='<b onclick="x">')
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "base", "object", "b", "form"}
    assert [tag for tag, _ in page.elements].count("style") == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src", "xlink:href", "action", "style"):
            assert attributes.get(name, "#").startswith("#") or (tag, attributes[name]) == (
                "link",
                "data:,",
            )
    assert "<script>document.title='owned'</script>" in page.text
    assert "{{ 7 * 7 }}" in page.text
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", raw)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_plot_has_a_title_a_description_and_its_numbers_as_a_table(easy):
    tags = [tag for tag, _ in easy.elements]
    plots = tags.count("svg")
    assert plots == 13
    assert tags.count("figure") == plots
    assert tags.count("desc") == plots
    # Those of the models and of what the columns are.
    assert tags.count("table") == plots + 2
    assert all(attributes["role"] == "img" for tag, attributes in easy.elements if tag == "svg")


@pytest.mark.slow
def test_a_long_text_keeps_its_two_ends_and_a_page_stays_small(tmp_path):
    long = "BEGIN" + "\U0001f600<" * 150_000 + "END"
    frame = pl.DataFrame(
        {
            "id": [f"{group}{long}" for group in range(40) for _ in range(3)],
            "prompt": long,
            "completion": [f"{row % 4}{long}" for row in range(120)],
            "model": [f"{row % 40}{long}" for row in range(120)],
            "reward": [float(row % 3) if row % 10 else None for row in range(120)],
        }
    )
    page = page_of(frame, tmp_path)
    assert (tmp_path / "report.html").stat().st_size < 500_000
    assert "300,009 characters in all" in page.text
    assert {len(text) for text in page.texts if text.startswith("BEGIN")} == {700}
    # Labels are shorter.
    assert max(len(text) for text in page.texts if text.endswith("END")) == 300


def test_a_part_without_a_column_is_left_out_and_told(tmp_path):
    page = page_of(pl.DataFrame({"id": [1, 1, 2], "reward": [0.0, 1.0, 0.5]}), tmp_path)
    assert "Left out: no column is called completion or response; name one with" in page.text
    assert "Prompts are left out: no column is called prompt" in page.text
    assert "Left out: no column is called source or model" in page.text
    empty = pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0], "response": [None, None]})
    page = page_of(empty.cast({"response": pl.String}), tmp_path)
    assert "Left out: the column response holds no text." in page.text


def test_a_reward_whose_square_overflows_is_refused_with_its_row(tmp_path):
    frame = pl.DataFrame({"id": 1, "reward": [0.0, -1e200]})
    with pytest.raises(ValueError, match=r"reward -1e\+200 at row 1 is too large"):
        report(frame, tmp_path / "report.html", by="id")


@pytest.mark.parametrize(
    "rewards",
    [[1.0], [0.5, 0.5, 0.5], [-1e149, 1e149, 0.0], [1e-320, 0.0, 2e-320], [3, 10**6, -(10**6)]],
)
def test_odd_rewards_still_make_a_page(tmp_path, rewards):
    frame = pl.DataFrame({"id": 1, "reward": pl.Series(rewards), "completion": "x", "model": "m"})
    page = page_of(frame, tmp_path)
    assert "Difficulty" in page.text
    plots = [attributes for tag, attributes in page.elements if tag in ("rect", "circle", "line")]
    numbers = [value for one in plots for name, value in one.items() if name != "class"]
    assert all(np.isfinite(float(number)) for number in numbers)


def test_the_order_of_the_rows_changes_no_number(shared, tmp_path):
    frame = pl.read_parquet(shared / "data/qwen_math_rm8.parquet")
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=3)
    numbers = []
    for rows in (frame, shuffled):
        report(rows, tmp_path / "report.html", by="prompt_id", overwrite=True)
        text = (tmp_path / "report.html").read_text(encoding="utf-8")
        numbers.append(text[text.index('id="groups"') : text.index('id="completions"')])
    assert numbers[0] == numbers[1]


def test_a_browser_shows_the_page_without_an_error_or_a_request(hostile, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    report(hostile, tmp_path / "report.html", by="id", reward='<b onclick="x">')
    log = tmp_path / "net.json"
    options = "--headless=new --no-sandbox --disable-background-networking --dump-dom"
    found = subprocess.run(
        [
            *(
                browser,
                *options.split(),
                "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}",
            ),
            *(f"--log-net-log={log}", (tmp_path / "report.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert "CONSOLE" not in found.stderr
    assert "<h2>About this page</h2>" in found.stdout
    assert "<title>owned" not in found.stdout
    assert "example.org" not in json.dumps(
        [e for e in json.loads(log.read_text())["events"] if "url" in str(e.get("params"))]
    )


def test_messages_stand_by_role_and_count_what_they_say(tmp_path):
    def said(text):
        return [{"role": "assistant", "content": text}]

    asked = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "2+2="}]
    rows = [
        {"id": "a", "prompt": asked, "completion": said(text), "reward": reward}
        for text, reward in (("four", 1.0), ("4", 1.0), ("five", 0.0), ("four", 0.0))
    ]
    frame = pl.DataFrame(rows)
    frame.write_ndjson(tmp_path / "a.jsonl")
    for source in (frame, tmp_path / "a.jsonl"):
        page = page_of(source, tmp_path)
        assert "system Be <b>brief</b>. user 2+2=" in page.text
        assert "assistant four" in page.text
        assert "From 1 to 4 characters, 3.25 on average" in page.text
        assert "1 of 1 repeated completions got different rewards" in page.text


def test_all_members_of_a_group_are_there_or_how_many_are_not(tmp_path):
    frame = pl.DataFrame({"id": 1, "completion": [f"no. {i}" for i in range(70)]})
    frame = frame.with_columns(reward=pl.int_range(70))
    page = page_of(frame.head(64), tmp_path)
    assert "All 64 members, from the highest reward" in page.text
    assert all(f"no. {i} " in page.text for i in range(64))
    page = page_of(frame, tmp_path)
    assert "64 of 70 members, those in the middle left out" in page.text
    shown = set(re.findall(r"no\. (\d+) ", page.text))
    assert shown == {str(i) for i in [*range(32), *range(38, 70)]}


def test_no_path_of_the_machine_stands_on_the_page(tmp_path):
    folder = tmp_path / "secret place"
    folder.mkdir()
    pl.DataFrame({"id": [1, 1], "reward": [0.0, 1.0]}).write_parquet(folder / "a.parquet")
    page = page_of(folder / "a.parquet", tmp_path)
    raw = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "secret" not in raw
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC · gspo_rs \d", page.text)
    assert "gspo-rs report a.parquet --by id" in page.text


def test_bars_of_few_values_stand_at_their_place(tmp_path):
    frame = pl.DataFrame({"id": [1, 1, 2, 2, 2], "reward": [0.0, 0.25, 0.5, 0.75, 1.0]})
    raw = page_of(frame, tmp_path) and (tmp_path / "report.html").read_text(encoding="utf-8")
    plot = raw[raw.index("<h3>Rewards</h3>") :]
    plot = plot[: plot.index("</svg>")]
    ticks = dict(
        reversed(pair)
        for pair in re.findall(r'<text class="tick" x="([\d.]+)" y="193" [^>]*>([\d.]+)<', plot)
    )
    bars = re.findall(r'<rect class="bar" x="([\d.]+)" width="([\d.]+)".*?<title>([\d.]+):', plot)
    assert [label for *_, label in bars] == ["0", "0.25", "0.5", "0.75", "1"]
    for x, width, label in bars:
        assert float(x) + float(width) / 2 == pytest.approx(float(ticks[label]), abs=0.1)


@pytest.mark.slow
def test_a_table_of_tasks_has_the_numbers_that_polars_has(shared, tmp_path):
    path = shared / "data/rg_easy.parquet"
    page = page_of(path, tmp_path, by="prompt_id", per="task")
    two = (pl.col("reward").max() > pl.col("reward").min()).over("prompt_id")
    tasks = (
        pl.read_parquet(path)
        .with_columns(two=two)
        .group_by("task")
        .agg(
            pl.len(),
            pl.col("prompt_id").n_unique().alias("groups"),
            pl.col("prompt_id").filter("two").n_unique().alias("two"),
            pl.col("reward").null_count().alias("none"),
            pl.col("reward").mean(),
            pl.col("response").str.len_chars().mean(),
        )
        .sort(["len", "task"], descending=[True, False])
    )
    for name, rows, groups, two, none, mean, length in tasks.head(60).iter_rows():
        shares = f"{per_cent(two, groups)} {per_cent(none, rows)}"
        line = f"{name} {rows:,} {groups:,} {shares} {mean:.3g} {written(length)} "
        assert line in page.text
    assert (
        f"{tasks.height - 60} more values of task, with fewer rollouts, are left out" in page.text
    )


def written(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
