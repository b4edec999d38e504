"""The chat template of a run: a file, a name, its variables; and conversations it cannot take."""

import json
import logging

import numpy as np
import pytest
from transformers import AutoTokenizer

from fixtures import alphabets
from fixtures.runs import TWO_STEPS, weights
from fixtures.tiny_models import write_chat
from gspo_rs.rollouts.rollouts import Rollouts
from gspo_rs.train import train
from gspo_rs.train.config.config import Config, ConfigError
from gspo_rs.train.config.toml import load
from gspo_rs.train.model.chat_template import with_template
from gspo_rs.train.model.policy import PolicyError
from gspo_rs.train.rehearsal import plan
from gspo_rs.train.rollout.chat import as_texts, rendered

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% if loud %}!{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)
ASKED = [[{"role": "user", "content": "cd"}], [{"role": "user", "content": "efg"}]]


def spoken(messages, role="assistant", content="8"):
    return [*messages, {"role": role, "content": content}]


@pytest.fixture
def chatml():
    return alphabets.letters(chat_template=alphabets.CHATML)


@pytest.fixture
def short(tmp_path):
    """A file with another template than the tokenizers have."""
    path = tmp_path / "short.jinja"
    path.write_text(SHORT)
    return str(path)


@pytest.fixture
def fields(tmp_path):
    def make(tokenizer, name="run", **given):
        model = tmp_path / f"model of {name}"
        write_chat(model, tokenizer, stops=["</s>"])
        return {
            "model": str(model),
            "output_dir": str(tmp_path / name),
            **TWO_STEPS,
            "quiet": True,
            **given,
        }

    return make


def score(completions, **_):
    return [float(len(completion[0]["content"])) for completion in completions]


@pytest.mark.slow
@pytest.mark.parametrize("given", ["a file", "a name"])
def test_a_run_with_a_template_is_that_of_a_tokenizer_which_has_it(fields, short, tmp_path, given):
    bare = alphabets.letters()
    if given == "a name":
        bare.chat_template = {"default": alphabets.CHATML, "short": SHORT}
    prompts, kwargs = [{"prompt": asked} for asked in ASKED], {"loud": True}
    options = {"chat_template": short if given == "a file" else "short"}
    options["chat_template_kwargs"] = kwargs
    train(**fields(bare), **options, prompts=prompts, reward=score)
    own = alphabets.letters(chat_template=SHORT)
    own_fields = fields(own, "own", chat_template_kwargs=kwargs)
    train(**own_fields, prompts=prompts, reward=score)
    assert weights(tmp_path / "run/final") == weights(tmp_path / "own/final")
    train(**fields(own, "quiet"), prompts=prompts, reward=score)
    assert weights(tmp_path / "run/final") != weights(tmp_path / "quiet/final")
    # The model is written with the template that it was trained with; the one it came from stays.
    final = AutoTokenizer.from_pretrained(tmp_path / "run/final")
    assert rendered(final, ASKED[:1]) == ["ucd</s>a"]
    before = AutoTokenizer.from_pretrained(tmp_path / "model of run")
    assert before.chat_template == bare.chat_template
    again = {**fields(bare), "max_steps": 3}
    train(**again, **options, prompts=prompts, reward=score, resume=True)
    straight = fields(bare, "straight", max_steps=3)
    train(**straight, **options, prompts=prompts, reward=score)
    assert weights(tmp_path / "run/final") == weights(tmp_path / "straight/final")


def test_the_tokenizer_that_was_given_keeps_its_template(chatml, short):
    found = with_template(chatml, short, {})
    assert (found.chat_template, chatml.chat_template) == (SHORT, alphabets.CHATML)
    assert with_template(chatml, None, {}) is chatml


def test_a_template_is_found_beside_the_run_file_and_a_name_stays_a_name(tmp_path, short):
    run = tmp_path / "run.toml"
    run.write_text(
        'model = "m"\nprompts = "p"\nchat_template = "short.jinja"\n[chat_template_kwargs]\na = 1\n'
    )
    found = load(run)
    assert (found.chat_template, found.chat_template_kwargs) == (short, {"a": 1})
    assert load(run, ["chat_template=rag"]).chat_template == "rag"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loud": True, "aloud": 1}, "aloud: .* does not read it, but loud; did you mean 'loud'"),
        ({"add_generation_prompt": False}, "add_generation_prompt: the run decides it"),
        ({"tokenize": True}, "tokenize: the run decides it"),
        ({"messages": []}, "messages: the run decides it"),
        ({"loud": "False"}, "loud = 'False' is text; write true or false"),
    ],
)
def test_a_variable_that_the_template_is_not_given_or_does_not_read_is_refused(options, message):
    tokenizer = alphabets.letters(chat_template=SHORT)
    with pytest.raises(ConfigError, match=f"chat_template_kwargs {message}"):
        with_template(tokenizer, None, options)


def test_variables_of_every_kind_of_template_are_known(tmp_path):
    text = (
        "{% generation %}{{ messages[0].content }}{% endgeneration %}{% if a is not defined %}"
        "{% set a = 1 %}{% endif %}{% for m in messages %}{% break %}{% endfor %}{{ a }}"
        "{% macro say(x) %}{{ x }}{{ b }}{% endmacro %}{{ say(tools) }}{{ strftime_now('%d') }}"
    )
    tokenizer = alphabets.letters(chat_template=text)
    with_template(tokenizer, None, {"a": 2, "b": None, "tools": []})
    with pytest.raises(ConfigError, match="does not read it, but a, b, tools"):
        with_template(tokenizer, None, {"x": 2})


def test_variables_without_a_template_are_refused():
    with pytest.raises(ConfigError, match="has no chat template that reads them"):
        with_template(alphabets.letters(), None, {"loud": True})
    with pytest.raises(ConfigError, match="chat_template_kwargs = 'loud': must be a table"):
        Config(model="m", chat_template_kwargs="loud")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{% for m in messages %}", "no template of Jinja: .* in line 1"),
        (b"\n{{ messages | }}", "no template of Jinja: .* in line 2"),
        (b"\xff", "cannot be read"),
    ],
)
def test_a_file_that_is_no_template_is_refused(tmp_path, text, message):
    path = tmp_path / "broken.jinja"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        with_template(alphabets.letters(), str(path), {})


def test_a_template_that_is_not_there_is_refused_with_those_that_are(chatml, tmp_path):
    with pytest.raises(ConfigError, match=r"'x\.jinja': there is no such file .* names none"):
        with_template(chatml, "x.jinja", {})
    chatml.chat_template = {"default": SHORT, "tool_use": SHORT}
    with pytest.raises(ConfigError, match="default, tool_use; did you mean 'tool_use'"):
        with_template(chatml, "tool_us", {})


def test_several_templates_without_a_default_are_refused_until_one_is_named(chatml):
    chatml.chat_template = {"short": SHORT, "chatml": alphabets.CHATML}
    with pytest.raises(PolicyError, match="short, chatml, and none by default; give one of these"):
        rendered(chatml, ASKED)
    assert rendered(with_template(chatml, "short", {}), ASKED[:1]) == ["ucd</s>a"]
    chatml.chat_template = {"short": SHORT, "tool_use": alphabets.CHATML}
    named = with_template(chatml, "short", {"loud": True})
    assert rendered(named, ASKED[:1], {"loud": True}) == ["ucd!</s>a"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "no message for the assistant to answer"),
        (spoken(ASKED[0], "assistent"), "message 1 has the role 'assistent'.*mean 'assistant'"),
        (spoken(ASKED[0], None), "message 1 has the role None"),
        (spoken(ASKED[0]), "ends with the assistant, so there is nothing to answer"),
    ],
)
@pytest.mark.parametrize("begin", [train, plan])
def test_a_conversation_that_is_no_prompt_is_named_with_its_row_before_anything(
    fields, chatml, tmp_path, asked, message, begin
):
    prompts = [{"prompt": row} for row in (*ASKED, asked, ASKED[0])]
    run = fields(chatml)
    run.pop("quiet")
    with pytest.raises(ValueError, match=rf"row 2 of prompts: .*{message}"):
        begin(**run, prompts=prompts, reward=score)
    assert not (tmp_path / "run").exists()


def test_a_row_that_the_template_refuses_is_named_with_the_remedy(fields, chatml):
    chatml.chat_template = (
        "{% if messages | length > 1 %}{{ raise_exception('one at a time') }}{% endif %}a"
    )
    prompts = [{"prompt": row} for row in (ASKED[0], spoken(ASKED[0], "user"))]
    words = "row 1 of prompts: the chat template refuses .*one at a time; .* chat_template = a file"
    with pytest.raises(PolicyError, match=words):
        train(**fields(chatml), prompts=prompts, reward=score)


def test_a_role_that_the_template_names_is_known(chatml):
    chatml.chat_template = "{% if messages[0].role == 'ipython' %}a{% endif %}b"
    assert rendered(chatml, [spoken([], "ipython")]) == ["ab"]


def test_fields_that_are_null_are_left_out(chatml):
    chatml.chat_template = "{% for m in messages %}{{ m | tojson }}{% endfor %}"
    call = {"name": "f", "arguments": {"x": 1, "y": None}, "id": None}
    said = [{"role": "user", "content": [call], "name": None, "tool_calls": None}]
    (text,) = rendered(chatml, [said])
    assert json.loads(text) == {
        "role": "user",
        "content": [{"name": "f", "arguments": {"x": 1}}],
    }


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (spoken(ASKED[1], "user"), "'messages' .* does not end with what the assistant said"),
        (spoken(spoken(ASKED[1])), "row 1, group 0: .* one message of the assistant, with text"),
        (spoken(spoken(ASKED[1], "usr")), "row 1, group 0: message 1 has the role 'usr'"),
        (spoken([]), "row 1, group 0: .* no message for the assistant to answer"),
    ],
)
def test_a_scored_conversation_that_does_not_end_as_it_must_is_named(fields, chatml, said, message):
    rows = [
        {"prompt_id": 0, "messages": messages, "reward": float(place)}
        for place, messages in enumerate((spoken(ASKED[0]), said, spoken(ASKED[0])))
    ]
    with pytest.raises(ValueError, match=message):
        train(**fields(chatml, shuffle_dataset=False), rollouts=rows)


def test_messages_get_no_bos_that_their_template_does_not_write():
    tokenizer = alphabets.byte_level("<s> $A", chat_template=SHORT)
    n = len(ASKED)
    given = Rollouts(
        offsets=np.array([0, n]), prompts=ASKED, completions=["a"] * n, reward=np.zeros(n)
    )
    found = as_texts(given, tokenizer, {"loud": True}).prompt_tokens
    for row, asked in enumerate(ASKED):
        options = {"add_generation_prompt": True, "return_dict": False, "loud": True}
        assert found.row(row).tolist() == tokenizer.apply_chat_template(asked, **options)


# A model that stops at </s> alone, and a template that ends only what the assistant says.
OPEN = (
    "{% for m in messages %}{{ m.role[0] }}{{ m.content }}"
    "{% if m.role == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}a{% endif %}"
)


def test_offline_a_turn_ends_as_its_template_ends_it_though_the_model_does_not_stop_there(
    fields, training_batches
):
    tokenizer = alphabets.letters(chat_template=OPEN)
    rows = [
        {"prompt_id": 0, "messages": spoken(ASKED[0], content=content), "reward": reward}
        for content, reward in (("ab", 0.0), ("cde", 1.0))
    ]
    train(**fields(tokenizer, max_completion_length=9), rollouts=rows)
    texts = {tokenizer.decode(training_batches[0].completions.row(row)) for row in (0, 1)}
    assert texts == {"ab<|im_end|>", "cde<|im_end|>"}


@pytest.mark.parametrize("stop", [None, "<|im_end|>"])
def test_online_it_is_said_that_the_model_does_not_stop_at_the_end_of_a_turn(fields, caplog, stop):
    tokenizer = alphabets.letters(chat_template=OPEN)
    prompts = [{"prompt": asked} for asked in ASKED]
    with caplog.at_level(logging.WARNING, "gspo_rs"):
        train(**fields(tokenizer, stop=stop), prompts=prompts, reward=score)
    warned = "ends a turn with '<|im_end|>', which is none of the model's end tokens" in caplog.text
    assert warned == (stop is None)


def test_a_run_goes_on_with_the_template_that_it_was_trained_with(fields, short, tmp_path):
    given = fields(alphabets.letters(), chat_template=short)
    prompts = [{"prompt": asked} for asked in ASKED]
    train(**given, prompts=prompts, reward=score)
    (tmp_path / "short.jinja").write_text(SHORT + "?")
    given["max_steps"] = 3
    with pytest.raises(ConfigError, match=r"chat_template = .*short\.jinja' changed since"):
        train(**given, prompts=prompts, reward=score, resume=True)
    (tmp_path / "short.jinja").write_text(SHORT)
    train(**given, prompts=prompts, reward=score, resume=True)


def test_variables_of_a_template_are_refused_where_prompts_are_texts(fields):
    given = fields(alphabets.letters(chat_template=SHORT), chat_template_kwargs={"loud": True})
    with pytest.raises(ConfigError, match="the prompts are texts, which no template renders"):
        train(**given, prompts=[{"prompt": "ab"}], reward=score)


def test_messages_written_as_json_train_what_messages_do(fields, chatml, tmp_path):
    online = {"reward": score, "prompts": [{"prompt": asked} for asked in ASKED]}
    train(**fields(chatml), **online)
    online["prompts"] = [{"prompt": json.dumps(asked)} for asked in ASKED]
    train(**fields(chatml, "json"), **online)
    assert weights(tmp_path / "run/final") == weights(tmp_path / "json/final")
    rows = [
        {
            "prompt_id": 0,
            "prompt": ASKED[0],
            "completion": spoken([], content=text),
            "reward": value,
        }
        for text, value in (("a", 0.0), ("bc", 1.0))
    ]
    train(**fields(chatml, "offline"), rollouts=rows)
    for row in rows:
        row["prompt"] = json.dumps([{"from": "human", "value": "cd"}])
        row["completion"] = json.dumps(row["completion"])
    train(**fields(chatml, "offline json"), rollouts=rows)
    assert weights(tmp_path / "offline/final") == weights(tmp_path / "offline json/final")
