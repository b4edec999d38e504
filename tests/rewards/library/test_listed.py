import re

from fixtures.places import ROOT
from gspo_rs.rewards import library
from gspo_rs.rewards.library import listed


def test_the_list_says_of_each_reward_what_it_takes_and_needs():
    found = {one.name: one for one in listed()}
    assert found["math_match"].extra == "math"
    assert found["math_match"].killable
    assert found["code_tests"].columns == ("tests",)
    assert found["code_tests"].extra is None
    assert found["numeric_match"].spec == "gspo_rs.rewards.library:numeric_match"
    assert not found["numeric_match"].killable
    assert all(one.meaning.endswith(".") and len(one.meaning) < 110 for one in found.values())


def test_the_guide_has_every_reward_with_its_columns():
    text = (ROOT / "docs" / "guides" / "rewards.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*)\|", text, re.MULTILINE))
    for one in listed():
        assert re.findall(r"`(\w+)`", rows[one.name]) == [*one.columns], one.name


def test_every_public_name_is_there_and_every_reward_has_its_traps():
    for name in library.__all__:
        assert getattr(library, name).__name__ == name
    for one in listed():
        text = getattr(library, one.name).__doc__
        assert "Traps\n" in text, one.name
        assert "References\n" in text, one.name
