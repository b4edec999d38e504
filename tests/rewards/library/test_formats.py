from itertools import product

import pytest
from trl.rewards import think_format_reward

from gspo_rs.rewards.library import tag_structure, think_answer_format, think_format

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
# Every text of up to five of these pieces.
PIECES = (*TAGS, " ", "a")
TEXTS = ["".join(pieces) for n in range(5) for pieces in product(PIECES, repeat=n)]


def test_a_text_thinks_as_trl_says():
    oracle = think_format_reward([[{"role": "assistant", "content": text}] for text in TEXTS])
    assert think_format(completions=TEXTS) == oracle


def parsed(text):
    """Whether a text is of the form, letter by letter."""
    left = text.strip()
    for tag in TAGS:
        before, found, left = left.partition(tag)
        inside = tag.startswith("</")
        if not found or (before.strip() and not inside) or "<" in before:
            return 0.0
    return float(not left)


def test_a_text_thinks_and_answers_as_a_parser_that_reads_it_from_the_left_says():
    texts = [*TEXTS, *(f"<think>{a}</think>{b}<answer>{c}</answer>{d}" for a, b, c, d in FOURS)]
    found = think_answer_format(completions=texts)
    assert found == [parsed(text) for text in texts]
    assert sum(found) > 10


FOURS = list(product(("", "a", "\n", "<think>"), repeat=4))


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("<think></think><answer></answer>", 1.0),
        ("<think>a", 0.25),
        ("</answer></think><answer>", 0.5),  # that which closes the answer comes too early
        ("<think><think></think><answer>", 0.5),
        ("", 0.0),
        ("</answer>", 0.25),
    ],
)
def test_a_tag_counts_a_quarter_where_it_stands_once_and_in_its_place(text, share):
    assert tag_structure(completions=[text]) == [share]


def test_all_tags_are_in_place_only_where_they_stand_once_and_in_order():
    full = [text for text in TEXTS if tag_structure(completions=[text]) == [1.0]]
    assert full == ["".join(TAGS)]
