"""The chat template of a run, and the variables that it is given."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gspo_rs.groups.synonyms import did_you_mean
from gspo_rs.train.config.config import ConfigError

__all__ = ["with_template"]

# What transformers takes of several templates by itself: always, and where there are tools.
_DEFAULT, _WITH_TOOLS = "default", "tool_use"
# Arguments of `apply_chat_template` that are variables of the template.
_VARIABLES = ("tools", "documents", "kwargs")
# What transformers gives every template besides.
_GIVEN = frozenset({"messages", "add_generation_prompt", "raise_exception", "strftime_now"})


def with_template(tokenizer: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    """Return a tokenizer that renders messages by the template of a run.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Left as it is.
    name : str or None
        `chat_template`: a file, or one of the tokenizer's templates; None for its default.
    options : mapping
        `chat_template_kwargs`, which are checked.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        With the template as its default, so that it is saved with the model that was trained with
        it; its other templates keep their names.

    Raises
    ------
    ConfigError
        If there is neither such a file nor such a template, it is no template of Jinja, or an
        option is none that the template reads.
    """
    if name is not None:
        given = getattr(tokenizer, "chat_template", None)
        several = given if isinstance(given, dict) else {}
        text = _found(name, several)
        default = dict.fromkeys({_DEFAULT, *({_WITH_TOOLS} & several.keys())}, text)
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = {**several, **default} if several else text
    if options:
        _check(tokenizer, options)
    return tokenizer


def _found(name: str, several: Mapping[str, str]) -> str:
    """Return the text of a template."""
    path = Path(name)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"chat_template = {name!r}: cannot be read: {error}") from error
        _variables(text, f"chat_template = {name!r}")
        return text
    if name in several:
        return several[name]
    others = f"the tokenizer has {', '.join(several)}" if several else "the tokenizer names none"
    raise ConfigError(
        f"chat_template = {name!r}: there is no such file in {Path.cwd()}, and no template of that"
        f" name: {others}{did_you_mean(name, several, {})}"
    )


def _check(tokenizer: Any, options: Mapping[str, Any]) -> None:
    """Raise a ConfigError if an option is one that the run decides, or that nothing reads."""
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            f"chat_template_kwargs = {dict(options)!r}: the tokenizer has no chat template that"
            " reads them; give one, chat_template = a file, or leave them out"
        )
    try:
        text = tokenizer.get_chat_template(tools=options.get("tools"))
    except ValueError as error:  # several, none of them the default
        raise ConfigError(f"chat_template_kwargs: {error}; see chat_template") from error
    own = inspect.signature(tokenizer.apply_chat_template).parameters.keys() - {*_VARIABLES}
    read = _variables(text, "chat_template_kwargs: the chat template")
    for name, value in options.items():
        if value in ("True", "False", "None"):
            raise ConfigError(
                f"chat_template_kwargs {name} = {value!r} is text; write true or false"
            )
        if name in own | _GIVEN:
            raise ConfigError(f"chat_template_kwargs {name}: the run decides it; leave it out")
        if name not in read:
            known = sorted(read - _GIVEN - tokenizer.special_tokens_map.keys())
            which = ", ".join(known) or "no variable"
            raise ConfigError(
                f"chat_template_kwargs {name}: the chat template does not read it, but {which}"
                f"{did_you_mean(name, known, {})}"
            )


def _variables(text: str, place: str) -> set[str]:
    """Return the names that a template reads."""
    extensions: list[Any] = ["jinja2.ext.loopcontrols", _Generation]
    environment = ImmutableSandboxedEnvironment(extensions=extensions)
    try:
        return meta.find_undeclared_variables(environment.parse(text))
    except TemplateSyntaxError as error:
        reason = f"{error.message} in line {error.lineno}"
        raise ConfigError(f"{place} is no template of Jinja: {reason}") from error
    except TemplateError as error:
        raise ConfigError(f"{place} is no template of Jinja: {error}") from error


class _Generation(Extension):
    """Reads the tag with which templates mark what the assistant said, as transformers does."""

    tags = {"generation"}  # noqa: RUF012 -- as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return what stands between the tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
