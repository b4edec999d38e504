import json

import pytest
from jsonschema import Draft202012Validator

from gspo_rs.rewards.errors import RewardError
from gspo_rs.rewards.judges.cache import Cache, digest_of
from gspo_rs.rewards.judges.verdicts import (
    Rubric,
    Scale,
    better_schema,
    read_better,
    read_score,
    score_schema,
)

SCALE = Scale("1..10")
REPLIES = [
    {"score": 7, "reason": "good"},
    {"score": 7.5, "reason": ""},
    {"score": "7", "reason": ""},
    {"score": True, "reason": ""},
    {"score": None, "reason": ""},
    {"score": 7, "reason": "", "more": 1},
    {"reason": "good"},
    [7],
    7,
    {"better": "A", "reason": ""},
    {"better": "tie", "reason": ""},
    {"better": "a", "reason": ""},
    {"better": ["A"], "reason": ""},
]


def readable(read, *given):
    try:
        read(*given)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("reply", REPLIES)
def test_a_reply_is_read_where_a_validator_of_its_schema_takes_it(reply):
    text = json.dumps(reply)
    for schema, read, more in (
        (score_schema(SCALE), read_score, [SCALE]),
        (better_schema(), read_better, []),
    ):
        found = Draft202012Validator(schema["json_schema"]["schema"])
        assert readable(read, text, *more) == found.is_valid(reply)


@pytest.mark.parametrize("text", ["11", "0.99", "-1", "NaN", "Infinity", "1e999"])
def test_a_score_that_is_not_finite_or_not_in_the_scale_is_refused(text):
    with pytest.raises(ValueError, match=r"outside of 1\.\.10"):
        read_score(f'{{"reason": "", "score": {text}}}', SCALE)


@pytest.mark.parametrize("text", ["", "7", "I say 7", '{"score": 7', "[" * 100_000])
def test_what_is_no_json_of_the_schema_is_refused(text):
    with pytest.raises(ValueError, match="the judge answered"):
        read_score(text, SCALE)


@pytest.mark.parametrize("text", ["", "1", "1..", "10..1", "1..1", "a..b", "nan..2", "0..inf"])
def test_what_is_no_scale_is_refused(text):
    with pytest.raises(RewardError, match="no scale of a judge; write"):
        Scale(text)


def test_places_are_filled_once_whatever_the_values_hold(tmp_path):
    file = tmp_path / "rubric.txt"
    file.write_text('{{ prompt }} -> {{completion}} as {"score": 1}')
    rubric = Rubric(file, ("prompt", "completion"))
    values = {"prompt": "{{ completion }}", "completion": "\\1 {{ prompt }}"}
    expected = '{{ completion }} -> \\1 {{ prompt }} as {"score": 1}'
    assert rubric.filled(values) == expected
    with pytest.raises(RewardError, match=r"place {{ completion }}.*--pass\. They have prompt"):
        rubric.filled({"prompt": ""})


def test_a_rubric_that_does_not_show_the_completion_or_cannot_be_read_is_refused(tmp_path):
    file = tmp_path / "rubric.txt"
    with pytest.raises(RewardError, match=r"rubric\.txt cannot be read"):
        Rubric(file, ())
    file.write_text("How good?")
    with pytest.raises(RewardError, match=r"no place \{\{ completion \}\}: the judge would not"):
        Rubric(file, ("completion",))


def test_replies_are_kept_by_what_was_asked_for_other_processes_too(tmp_path):
    key = digest_of("scorer", {"a": 1, "b": [2]})
    assert key == digest_of("scorer", {"b": [2], "a": 1}) != digest_of("scorer", {"a": 1})
    first, second = Cache(tmp_path / "new" / "cache"), Cache(tmp_path / "new" / "cache")
    assert first.get(key) is None
    first.put({key: "fine"})
    assert second.get(key) == "fine"
    first.close()
    second.close()


def test_a_damaged_cache_is_named_with_what_to_do(tmp_path):
    (tmp_path / "replies.sqlite").write_bytes(b"no data base" * 100)
    with pytest.raises(RewardError, match=r"replies\.sqlite cannot be used: .*--cache"):
        Cache(tmp_path)
