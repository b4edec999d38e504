"""Every fenced command and program of README and docs runs as printed (two with less to learn).

A block that cannot run here says why in a comment above it, `<!-- not run: … -->`.
"""

import re
import shutil
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
import torch

from fixtures.pages import PAGES, SHELL, Reader, blocks, commands, program
from fixtures.places import ROOT

BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = {
    page: list(found)
    for page, found in groupby((block for block in BLOCKS if block.runs), lambda block: block.page)
}
# The reason of a block that shows lines of a file, and is compared with them.
EXCERPT = "lines of "
EXCERPTS = [block for block in BLOCKS if block.reason and block.reason.startswith(EXCERPT)]
LEFT_OUT = [block for block in BLOCKS if block.reason and block not in EXCERPTS]
LANGUAGES = {*SHELL, "python", "json", "toml", "text"}
# What the pages print → the same with less to learn; the short demo does not rise, and says so.
SHORT = {
    "python examples/letters.py": (["examples/letters.py", "--lessons", "30"], 0),
    "make demo": (["examples/demo.py", "--lessons", "5", "--steps", "2"], 1),
}
TRAINING = [
    page
    for page, found in RUN.items()
    if any(command in block.text for block in found for command in ("gspo-rs train", *SHORT))
]
# What runs this, and an example that trains in tests/project/test_examples.py.
RUN_ELSEWHERE = ("make test", "python examples/guessing.py")
# Page → the first words of what its commands print on the page, from there to the end of the block.
SHOWN = {
    "docs/guides/data_formats.md": "read as a verl rollout dump",
    "docs/guides/watching.md": "next\n  runs/watched",
    "docs/reference/losses.md": "loss: one ratio per sequence",
}


@pytest.fixture(scope="module")
def already(tmp_path_factory):
    """Each command of `SHORT` with the folder that it writes, once for all pages."""
    found = {}
    for command, (words, code) in SHORT.items():
        folder = tmp_path_factory.mktemp("short")
        shutil.copytree(ROOT / "examples", folder / "examples")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            assert program(words) == code
        found[command] = folder / "runs"
    return found


def names_of_your_own():
    """Names that the programs on the pages take from the reader's own loop."""
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[6], [4], [5], [3]])
    old_logprobs = torch.where(mask, -torch.rand(4, 6), torch.nan)
    return {
        "rewards": torch.tensor([0.0, 1.0, 0.5, 0.5]),
        "prompt_ids": ["a", "b", "a", "b"],
        "mask": mask,
        "lengths_of_the_whole_step": mask.sum(1),
        "old_logprobs": old_logprobs,
        "logprobs": old_logprobs.clone().requires_grad_(),
        "advantages": torch.tensor([-1.0, 1.0, 1.0, -1.0]),
    }


def followed(page, folder, capsys, already):
    """Run the blocks of a page in a folder, then the commands named as the next, and say all."""
    copies = {
        command: partial(shutil.copytree, runs, "runs", dirs_exist_ok=True)
        for command, runs in already.items()
    }
    elsewhere = dict.fromkeys(RUN_ELSEWHERE, lambda: None)
    reader = Reader(names_of_your_own(), {**copies, **elsewhere})
    shutil.copytree(ROOT / "examples", folder / "examples")
    printed = "".join(reader.follow(block, capsys) for block in RUN[page])
    for command in {*re.findall(r"next: (gspo-rs .*)", printed)}:
        Path("report.html").unlink(missing_ok=True)  # the usual name, of several reports
        assert reader.run(command) == 0, f"the next command of {page}: {command}"
    return printed


def check_shown(page, printed):
    """Compare what a page says that its commands print with what they print."""
    if page in SHOWN:
        text = (ROOT / page).read_text()
        shown = text[text.index(SHOWN[page]) :].partition("```")[0].partition('"')[0]
        assert " ".join(shown.split()) in " ".join(printed.split())


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if page not in TRAINING])
def test_the_blocks_of_a_page_run_one_after_the_other(
    page, capsys, caplog, tmp_path, monkeypatch, one_thread
):
    monkeypatch.chdir(tmp_path)
    check_shown(page, followed(page, tmp_path, capsys, {}) + caplog.text)


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINING)
def test_the_blocks_of_a_page_that_trains_run_one_after_the_other(
    page, capsys, tmp_path, monkeypatch, one_thread, already
):
    monkeypatch.chdir(tmp_path)
    check_shown(page, followed(page, tmp_path, capsys, already))


@pytest.mark.parametrize("block", LEFT_OUT, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_that_is_not_run_says_why(block):
    assert len(block.reason) > 10
    assert block.language in (*SHELL, "python")
    pytest.skip(block.reason)


@pytest.mark.parametrize("block", EXCERPTS, ids=lambda block: f"{block.page}:{block.line}")
def test_an_excerpt_of_a_file_is_in_it(block):
    file = (ROOT / block.reason.removeprefix(EXCERPT)).read_text()
    assert block.text.splitlines()[0] in file
    assert "".join(block.text.split()) in "".join(file.split())


def test_few_blocks_are_not_run():
    assert len(LEFT_OUT) < 15 < len([block for found in RUN.values() for block in found])


def test_every_block_names_its_language():
    # Of a block without one nobody could say whether it is to be run.
    unnamed = [f"{block.page}:{block.line}" for block in BLOCKS if block.language not in LANGUAGES]
    assert unnamed == []
    fences = sum(len(re.findall(r"^ *```", page.read_text(), re.M)) for page in PAGES)
    assert fences == 2 * len(BLOCKS)


def test_no_two_commands_of_the_pages_write_the_same_output():
    # Whoever types two pages one after the other is not to be refused on the second.
    targets = [
        target
        for block in BLOCKS
        if block.runs and block.language in SHELL
        for command, _ in commands(block)
        if not re.search("gspo-rs train|--overwrite", command)
        for target in re.findall(r" (?:-o|>) (\S+)", command)
    ]
    assert len(targets) > 15
    assert len({*targets}) == len(targets)
    assert all(target.startswith("runs/") for target in targets)
