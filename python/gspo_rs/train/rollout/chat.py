"""Conversations as the model reads them: by the chat template of its tokenizer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gspo_rs.groups.synonyms import did_you_mean
from gspo_rs.rollouts.rollouts import Ragged, Rollouts
from gspo_rs.samplers.special_tokens import Ends, end_tokens, text_rows
from gspo_rs.samplers.stop_strings import as_strings
from gspo_rs.train.config.config import Config
from gspo_rs.train.model.policy import Policy, PolicyError

__all__ = ["as_answers", "as_texts", "ends_of", "is_chat", "rendered", "warn_of_open_turns"]

_log = logging.getLogger("gspo_rs")
# Those of OpenAI's messages; a template may know more.
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def is_chat(said: Sequence[Any]) -> bool:
    """Return whether what is said are lists of messages, as all of a column are, or texts.

    Examples
    --------
    >>> is_chat(["2+2="]), is_chat([[{"role": "user", "content": "2+2="}]])
    (False, True)
    """
    return bool(len(said)) and not isinstance(said[0], str)


def rendered(
    tokenizer: Any,
    prompts: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    *,
    place: Callable[[int], str] = "prompt {}".format,
) -> list[str]:
    """Return prompts as texts that end where the answer begins; texts stay as they are.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        With the chat template of the run (`gspo_rs.train.model.chat_template`).
    prompts : sequence of str or of lists of messages
        A field of a message that is null is left out, as if it were not there.
    options : mapping, optional
        Variables of the template, `chat_template_kwargs`.
    place : callable
        Names a prompt in an error.

    Returns
    -------
    list of str
        What ``apply_chat_template(…, add_generation_prompt=True)`` makes of each. A text has all
        special tokens that it is to have: it gets no BOS besides.

    Raises
    ------
    PolicyError
        If they are messages, and the tokenizer has no template for them, or it takes no such ones.
    ValueError
        If a conversation has no message, a role that neither is usual nor has a place in the
        template, or ends with the assistant.
    """
    if not is_chat(prompts):
        return list(prompts)
    template = _template(tokenizer, options or {})
    texts = []
    for row, messages in enumerate(prompts):
        if fault := _fault(messages, template):
            raise ValueError(f"{place(row)}: {fault}: {messages!r:.200}")
        try:
            text = tokenizer.apply_chat_template(
                [_without_null(message) for message in messages],
                tokenize=False,
                add_generation_prompt=True,
                **(options or {}),
            )
        except Exception as error:  # whatever a template raises is its word on these messages
            raise PolicyError(
                f"{place(row)}: the chat template refuses {messages!r:.200}: {error}; correct or"
                " leave out the row, or give a template that takes it, chat_template = a file"
            ) from error
        texts.append(str(text))
    return texts


def _template(tokenizer: Any, options: Mapping[str, Any]) -> str:
    """Return the text of the template that messages are rendered by."""
    given = getattr(tokenizer, "chat_template", None)
    if not given:
        raise PolicyError(
            "the prompts are lists of chat messages, and the tokenizer has no chat template; give"
            " one, chat_template = a file, or a model that was trained to chat, or prompts as text"
        )
    try:
        return str(tokenizer.get_chat_template(tools=options.get("tools")))
    except ValueError as error:
        raise PolicyError(
            f"the tokenizer has the chat templates {', '.join(given)}, and none by default; give"
            " one of these names, chat_template = the name"
        ) from error


def _fault(messages: Sequence[Any], template: str) -> str | None:
    """Return why a conversation can't be a prompt, and the remedy."""
    if not messages:
        return "the conversation has no message for the assistant to answer; leave the row out"
    for place, message in enumerate(messages):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role in ROLES or (role and re.search(f"""['"]{re.escape(str(role))}['"]""", template)):
            continue
        known = ", ".join(ROLES)
        return (
            f"message {place} has the role {role!r}, which is neither one of {known} nor in the"
            f" chat template{did_you_mean(role, ROLES, {})}; correct it"
        )
    if messages[-1]["role"] == "assistant":
        return (
            "the conversation ends with the assistant, so there is nothing to answer; leave its"
            " last message out, or give whole conversations in a column `messages`"
        )
    return None


def _without_null(value: Any) -> Any:
    """Return a value without the keys of mappings that are null: columns have one for each row."""
    if isinstance(value, Mapping):
        return {key: _without_null(part) for key, part in value.items() if part is not None}
    return list(map(_without_null, value)) if isinstance(value, list | tuple) else value


def as_answers(completions: Sequence[str]) -> list[list[dict[str, str]]]:
    """Return completions as TRL gives them to reward functions where prompts are messages.

    Examples
    --------
    >>> as_answers(["4"])
    [[{'role': 'assistant', 'content': '4'}]]
    """
    return [[{"role": "assistant", "content": text}] for text in completions]


def as_texts(
    rollouts: Rollouts, tokenizer: Any, options: Mapping[str, Any] | None = None
) -> Rollouts:
    """Return rollouts whose prompts and completions are texts, where tokens are to be made of them.

    Prompts that are rendered have their tokens.

    Raises
    ------
    PolicyError, ValueError
        As `rendered`; or if a completion is more than one answer of the assistant in words. Names
        the row.
    """
    prompts, completions = rollouts.prompts, rollouts.completions
    tokens = rollouts.prompt_tokens
    if rollouts.completion_tokens is None and is_chat(completions):
        completions = [_answer(said, rollouts.place(row)) for row, said in enumerate(completions)]
    if is_chat(prompts) and None in (tokens, rollouts.completion_tokens):
        prompts = rendered(tokenizer, prompts, options, place=rollouts.place)
        if tokens is None:
            tokens = Ragged.from_rows(text_rows(tokenizer, prompts), "int64")
    if prompts is rollouts.prompts and completions is rollouts.completions:
        return rollouts
    return replace(rollouts, prompts=prompts, completions=completions, prompt_tokens=tokens)


def _answer(messages: Sequence[Any], place: str) -> str:
    if not messages:  # of a completion that is missing, whose reward is missing too
        return ""
    if len(messages) == 1 and messages[0].get("role") == "assistant":
        content = messages[0].get("content")
        if isinstance(content, str):
            return content
    raise ValueError(
        f"{place}: a completion is {messages!r:.200}; training takes one message of the assistant,"
        " with text"
    )


def ends_of(policy: Policy, config: Config, *, chat: bool = False) -> Ends:
    """Return how completions end: in a chat with the token that ends a turn of the template.

    Parameters
    ----------
    policy : Policy
        Tells model and tokenizer.
    config : Config
        Tells the variables of the template, and stop strings.
    chat : bool
        Whether prompts or completions are messages.

    Returns
    -------
    Ends
    """
    options, strings = config.chat_template_kwargs, as_strings(config.stop)
    stops = end_tokens(policy.model, policy.tokenizer, strings)
    found = Ends.of(policy.tokenizer, stops, options=options, strings=strings)
    return replace(found, everywhere=True) if chat else found


def warn_of_open_turns(policy: Policy, config: Config) -> None:
    """Log it if the policy does not stop where the chat template ends a turn."""
    ends = ends_of(policy, config)
    if ends.turn is not None and not ends.everywhere:
        _log.warning(
            "the chat template ends a turn with %r, which is none of the model's end tokens: the"
            " sampler goes on after it; set stop = [%r]",
            *[policy.tokenizer.decode([ends.turn])] * 2,
        )
