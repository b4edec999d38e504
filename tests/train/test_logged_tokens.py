"""Log-probabilities of tokens that are not given: taken only where no other tokens are possible."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from fixtures.alphabets import byte_level, letters, metaspace, prepending
from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.samplers.special_tokens import Ends, text_rows
from gspo_rs.samplers.transformers import generate
from gspo_rs.train.config.config import Config
from gspo_rs.train.rollout.boundary import completion_rows
from gspo_rs.train.rollout.logged_tokens import Logged
from gspo_rs.train.rollout.spelling import spellings
from gspo_rs.train.rollout.tokenize import LengthError, tokenise

pieces = st.sets(st.text("ab", min_size=1, max_size=3), max_size=6)


@given(st.text("ab", max_size=6), pieces)
def test_spellings_are_counted_as_trying_them_all_counts_them(text, vocabulary):
    found = spellings(text, 6, vocabulary)
    for number, ways in enumerate(found):
        tried = itertools.product(vocabulary, repeat=number)
        assert ways == min(sum("".join(one) == text for one in tried), 2)


def merging(*merges):
    """A tokenizer of a, b and what is merged of them; it ends with $."""
    vocabulary = {"$": 0, "a": 1, "b": 2}
    for one, other in merges:
        vocabulary[one + other] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="$")


def continuing():
    """A tokenizer whose pieces inside a word begin with ##."""
    vocabulary = {"$": 0, "a": 1, "b": 2, "##b": 3, "##ab": 4, "aa": 5, "[UNK]": 6}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="$", unk_token="[UNK]")


@given(
    st.sampled_from([(), (("a", "b"),), (("a", "b"), ("b", "a")), (("a", "a"), ("aa", "b"))]),
    st.text("ab", max_size=5),
    st.integers(0, 6),
)
def test_tokens_are_certain_only_if_one_list_of_that_number_writes_the_text(merges, text, number):
    tokenizer = merging(*merges)
    row = text_rows(tokenizer, [text])[0]
    found = Logged(tokenizer, Ends.of(tokenizer)).tokens(text, row, row, number)
    possible = [
        list(one)
        for one in itertools.product(range(len(tokenizer)), repeat=number)
        if 0 not in one[:-1] and "".join(tokenizer.decode(one).split("$")) == text
    ]
    if isinstance(found, list):
        assert possible == [found]
    else:
        assert len(possible) != 1 or len(row) not in (number, number - 1)


def rollouts(prompt, completion, number, **fields):
    return Rollouts(
        offsets=np.array([0, 1]),
        prompts=[prompt],
        completions=[completion],
        reward=np.array([1.0]),
        old_logprobs=Ragged.from_rows([[-1.0] * number], np.float32),
        **fields,
    )


CONFIG = Config(model="m", rollouts="r", max_completion_length=64)


def sampled_rows(tokenizer, model, prompts):
    """Texts that keep their blanks, texts decoded alone, and the tokens that were sampled."""
    found = generate(model, tokenizer, prompts, num_generations=16, **LENGTHS)
    for row, prompt in enumerate(found.prompts):
        tokens = found.completion_tokens.row(row).tolist()
        alone = tokenizer.decode(tokens, skip_special_tokens=True)
        for text in {found.completions[row], alone}:
            yield prompt, text, tokens


LENGTHS = {"max_completion_length": 12, "seed": 1}


def test_no_row_is_taken_whose_logprobs_are_of_other_tokens(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    model = AutoModelForCausalLM.from_pretrained(stories)
    prompts = ["Once upon a time there was", "2+2=", "Tom had a ball. It"]
    by_luck = 0
    for prompt, text, tokens in sampled_rows(tokenizer, model, prompts):
        start = text_rows(tokenizer, [prompt])
        (row,) = completion_rows(tokenizer, [prompt], [text], start)
        by_luck += len(row) in (len(tokens), len(tokens) - 1) and row != tokens[: len(row)]
        try:
            found, _ = tokenise(rollouts(prompt, text, len(tokens)), tokenizer, None, CONFIG)
        except LengthError as error:
            assert "completion_tokens_column" in str(error)  # noqa: PT017 -- most are refused
        else:
            assert found.completion_tokens.row(0).tolist() == tokens
    assert by_luck > 10


@pytest.mark.parametrize(
    ("build", "prompt", "text"),
    [
        (metaspace, "2+2=", " the cat"),
        (prepending, "2+2=", " the cat"),
        (lambda: metaspace(kind="unigram"), "2+2=", "8"),  # or a blank and 8, decoded alone
        (lambda: merging(("a", "b"), ("b", "a")), "b", "aba"),  # ab, a or a, ba
        (continuing, "b", " aab"),  # aa, ##b or a, ##ab
    ],
)
def test_a_number_that_agrees_by_luck_is_refused_with_its_row_and_text(build, prompt, text):
    tokenizer = build()
    (row,) = completion_rows(tokenizer, [prompt], [text], text_rows(tokenizer, [prompt]))
    rows = rollouts(prompt, text, len(row), source_rows=np.array([41]), group_ids=["g7"])
    words = rf"row 41, group 'g7': {len(row)} old .* more than one way .*n_tokens_column: '{text}'"
    with pytest.raises(LengthError, match=words):
        tokenise(rows, tokenizer, None, CONFIG)


def test_letters_leave_no_doubt_but_an_unknown_one_does():
    tokenizer = letters()
    found, _ = tokenise(rollouts("ab", "cab", 4), tokenizer, None, CONFIG)
    tokens = tokenizer.convert_ids_to_tokens(found.completion_tokens.row(0).tolist())
    assert tokens == ["c", "a", "b", "</s>"]
    assert found.truncated.tolist() == [False]
    found, _ = tokenise(rollouts("ab", "cab", 3), tokenizer, None, CONFIG)
    assert found.truncated.tolist() == [True]
    with pytest.raises(LengthError, match="more than one way"):
        tokenise(rollouts("ab", "cxb", 3), tokenizer, None, CONFIG)


def test_an_end_that_may_be_one_of_two_tokens_is_refused():
    tokenizer = letters()
    ends = Ends.of(tokenizer, tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>"]))
    with pytest.raises(LengthError, match="3 old log-probabilities fit more than one way"):
        tokenise(rollouts("ab", "ab", 3), tokenizer, None, CONFIG, ends=ends)
    found, _ = tokenise(rollouts("ab", "ab", 2), tokenizer, None, CONFIG, ends=ends)
    assert found.completion_tokens.lengths.tolist() == [2]


def test_a_text_that_has_its_end_has_a_logprob_for_it():
    tokenizer = letters()
    found, _ = tokenise(rollouts("ab", "ab</s>", 3), tokenizer, None, CONFIG)
    assert found.completion_tokens.row(0).tolist()[-1] == tokenizer.eos_token_id
    with pytest.raises(LengthError, match="4 old log-probabilities for 3 tokens"):
        tokenise(rollouts("ab", "ab</s>", 4), tokenizer, None, CONFIG)


def test_tokens_that_are_given_need_no_certainty(stories):
    tokenizer = AutoTokenizer.from_pretrained(stories)
    given = Ragged.from_rows([[410, 484, 2]], np.int64)
    found, _ = tokenise(rollouts("2+2=", "4", 3, completion_tokens=given), tokenizer, None, CONFIG)
    assert found.completion_tokens.row(0).tolist() == [410, 484, 2]
    assert found.truncated.tolist() == [False]


def test_a_row_that_nothing_is_learned_from_is_left_out_and_not_refused():
    rows = rollouts("the cat sa", "t on", 3)
    rows.reward[0] = np.nan
    found, _ = tokenise(rows, byte_level(), None, CONFIG)
    assert found.completion_tokens.lengths.tolist() == [0]
