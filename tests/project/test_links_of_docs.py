"""Links and paths in the documentation lead somewhere, and its table of rooms is the true one."""

import re
from pathlib import Path

from fixtures.places import ROOT
from project.test_house import BANNED, BELOW

FOLDERS = (".github", "benches", "docs", "examples", "python", "rust", "tests")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
)
# Not those of the tests, which make up paths of their own.
SOURCES = sorted(
    file
    for folder in FOLDERS[:-1]
    for kind in ("*.py", "*.rs", "*.toml")
    for file in (ROOT / folder).rglob(kind)
)
FENCED = re.compile(r"^```.*?^```\s*$", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)", re.M)
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.M)
ROOMS = "benches|docs|examples|python|rust|tests"
KINDS = r"md|py|rs|toml|jsonl(?:\.gz)?|parquet|csv|svg"
PATH = re.compile(rf"(?<![\w./-])(?:{ROOMS})/[\w./-]*\.(?:{KINDS})\b")
# They tell what was, with the paths of then.
HISTORY = {ROOT / "CHANGELOG.md", ROOT / "docs" / "log.md"}


def anchors(page: Path) -> set[str]:
    """Return the anchors that forges give the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCED.sub("", page.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        places = [slug, *(f"{slug}-{i}" for i in range(1, 50))]
        found.add(next(place for place in places if place not in found))
    return found


def dangling(page: Path) -> list[str]:
    """Return the relative links of a page that lead to no file, folder or heading."""
    text = CODE.sub("", FENCED.sub("", page.read_text()))
    bad = []
    for inline, reference in LINK.findall(text):
        link = inline or reference
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        lost = anchor and (target.suffix != ".md" or anchor not in anchors(target))
        if not target.exists() or lost:
            bad.append(f"{page.name}: {link}")
    return bad


def unknown_paths(file: Path) -> list[str]:
    """Return the paths of this repository that a file names and that are not there."""
    return [
        f"{file.name}: {path}"
        for path in PATH.findall(file.read_text())
        if not (ROOT / path).exists()
    ]


def test_relative_links_and_anchors_lead_somewhere():
    assert len(PAGES) > 20
    assert [bad for page in PAGES for bad in dangling(page)] == []


def test_paths_named_in_pages_and_sources_exist():
    files = [file for file in [*PAGES, *SOURCES] if file not in HISTORY]
    assert [bad for file in files for bad in unknown_paths(file)] == []


def test_a_broken_link_a_broken_anchor_and_a_lost_path_are_found(tmp_path):
    (tmp_path / "a.md").write_text("# Several rewards?\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "b.md"
    good = "[a](a.md) [b](a.md#several-rewards) [c](a.md#twice-1) [d](#top) ![](https://x.y/z)"
    page.write_text(
        f"# Top\n{good} [e](lost.md) [f](a.md#lost) [g](#lost)\n"
        "`[h](code.md)` docs/lost.md docs/glossary.md\n```\n[i](block.md)\n```\n\n[j]: gone.md\n"
    )
    assert dangling(page) == [f"b.md: {x}" for x in ("lost.md", "a.md#lost", "#lost", "gone.md")]
    assert unknown_paths(page) == ["b.md: docs/lost.md"]


def test_the_table_of_rooms_in_the_design_is_the_one_that_the_house_test_holds():
    page = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", page, re.M)
    assert {room: " ".join(re.findall(r"`(\w+)`", below)) for room, below in rows} == BELOW


def test_the_tree_in_the_readme_has_one_line_for_each_room():
    tree = (ROOT / "README.md").read_text().split("python/gspo_rs/\n")[1].split("rust/")[0]
    assert re.findall(r"^  (\w+)/ +\S", tree, re.M) == [*BELOW]
    assert len(tree.splitlines()) == len(BELOW)


def glossary(section: str) -> list[str]:
    """Return the first cells of a table of the glossary."""
    page = (ROOT / "docs" / "glossary.md").read_text()
    return re.findall(
        r"^\| (?!---)(.*?) \|", page.split(f"## {section}\n")[1].split("\n## ")[0], re.M
    )[1:]


def test_the_names_in_the_glossary_are_names_in_the_code():
    names = re.findall(r"`(\w+)`", " ".join(glossary("Names in the code")))
    assert len(names) > 15
    code = "\n".join(file.read_text() for file in SOURCES if file.suffix in (".py", ".rs"))
    assert [
        name for name in names if not re.search(rf"(?:class|def|struct|enum|fn) {name}\b", code)
    ] == []


def test_the_glossary_has_another_word_for_each_banned_one():
    assert {*glossary("Words we do not use")} == BANNED


def test_nothing_that_breaks_and_no_change_is_listed_twice():
    # Every change adds a line to one of these, and a merge may keep the lines of both sides.
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs" / "reliability.md").read_text(), re.M)
    changes = re.findall(r"^\* .*$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert len({*rows}) == len(rows) > 40
    assert len({*changes}) == len(changes) > 40
