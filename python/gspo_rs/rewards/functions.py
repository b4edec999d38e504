"""Reward functions of the user, called once per batch of rollouts.

The signature is TRL's [1]_: ``f(prompts, completions, **columns) -> list[float | None]``, one
reward per completion, None for a completion that could not be judged. It may be ``async def``, and
gets what is in `OFFERED` and `LOGS` where it asks for it by name, or takes ``**kwargs``.

References
----------
.. [1] TRL, "GRPO Trainer: using a custom reward function".
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gspo_rs.rewards.answers import listed_answer, place_of, rewards_of
from gspo_rs.rewards.awaited import awaited
from gspo_rs.rewards.errors import GradingError, RewardError
from gspo_rs.rewards.logged import Log, Logged

__all__ = [
    "GIVEN",
    "LOGS",
    "OFFERED",
    "RewardError",
    "RewardFunction",
    "Scores",
    "asked",
    "called",
    "deed_of",
    "listed",
    "load",
    "name_of",
    "named",
    "refuse_names",
    "score",
    "scores",
    "titled",
]

# What every reward function is given beside the columns of the prompts.
GIVEN = ("prompts", "completions")
# What it is given in training if its signature has it: the tokens of each completion, and the step.
OFFERED = ("completion_ids", "trainer_state")
# What it is always given if its signature has it.
LOGS = ("log_metric", "log_extra")
RewardFunction = Callable[..., Any]


def load(spec: str, *, what: str = "reward") -> Callable[..., Any]:
    """Import the function that `spec` names, running no code but its own module's.

    Parameters
    ----------
    spec : str
        ``"package.module:function"``, installed or in the working directory, or
        ``"folder/file.py:function"`` relative to it. What lies beside the file can be imported.
    what : str
        What the function is, for errors.

    Returns
    -------
    callable
        The function, as it is.

    Raises
    ------
    RewardError
        If `spec` is not of either form, its file, module or function does not exist, or its code
        fails or exits when it is imported; says where.

    Examples
    --------
    >>> load("statistics:fmean").__name__
    'fmean'
    """
    place, separator, name = spec.rpartition(":")
    if not separator or not place or not name:
        raise RewardError(
            f"{what} {spec!r} is not of the form 'module:function' or 'folder/file.py:function'"
        )
    with _telling(f"{what} {spec!r}"):
        module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    if function is not None:
        raise RewardError(f"{what} {spec!r}: {name} is a {type(function).__name__}, not a function")
    public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
    near = difflib.get_close_matches(name, public, n=3) or sorted(public)
    raise RewardError(f"{what} {spec!r}: no function {name} there; it has {', '.join(near) or '-'}")


def _from_name(name: str) -> Any:
    _look_in(Path.cwd())
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise RewardError(f"reward module {name!r} is not installed or not on the Python path")
    return importlib.import_module(name)


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise RewardError(f"reward file {str(path)!r} does not exist in {Path.cwd()}")
    path = path.resolve()
    _look_in(path.parent)
    # By its own name, processes that are spawned can import it too; but where that is another
    # module's, by one that no import statement can ask for: nothing that is installed is shadowed.
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    own = found is not None and found.origin == str(path)
    name = path.stem if own else f"gspo_rs reward {path}"
    description = importlib.util.spec_from_file_location(name, path)
    if description is None or description.loader is None:
        raise RewardError(f"reward file {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]  # as an import statement leaves it
        raise
    return module


def _look_in(folder: Path) -> None:
    """Append a folder to the import path, after installed packages."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def _telling(subject: str) -> Iterator[None]:
    """Turn an error raised while importing other code into a one-line RewardError."""
    try:
        yield
    except RewardError:
        raise
    except (Exception, SystemExit) as error:
        raise RewardError(f"{subject} {deed_of(error)}{_line_of(error)}") from error


def deed_of(error: BaseException) -> str:
    """Describe what other code did."""
    if isinstance(error, SystemExit):
        return f"called exit({'' if error.code is None else repr(error.code)}); it has to answer"
    text = error.msg if isinstance(error, SyntaxError) else error
    return f"raised {type(error).__name__}: {text}"


def _line_of(error: BaseException) -> str:
    """Return the line at which other code failed, if known."""
    if isinstance(error, SyntaxError):
        return f", in line {error.lineno} of {error.filename}"
    frames = [frame for frame in extract_tb(error.__traceback__) if _is_foreign(frame.filename)]
    return f", in line {frames[-1].lineno} of {frames[-1].filename}" if frames else ""


def _is_foreign(file: str) -> bool:
    return not file.startswith("<") and Path(file) != Path(__file__) and "importlib" not in file


def refuse_names(columns: Iterable[str], source: str = "the prompts") -> None:
    """Raise a RewardError for a column with the name of what a reward function is given."""
    for name in columns:
        if name in GIVEN or name in OFFERED or name in LOGS:
            raise RewardError(
                f"column {name!r} of {source} cannot go to a reward function, which is given "
                f"{name!r} of its own; rename the column, or drop it"
            )


def score(
    reward_fn: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    *,
    name: str | None = None,
    offered: Mapping[str, Any] | None = None,
) -> NDArray[np.float64]:
    """Call `reward_fn` once on all rollouts and check what it returns.

    Parameters
    ----------
    reward_fn : callable
        ``f(prompts=..., completions=..., **columns)``, answering one number or None each; may be
        ``async def``.
    prompts, completions : sequence of str, or of lists of chat messages, length n
        One pair per rollout.
    columns : mapping of str to sequence, each of length n, optional
        Further columns of the prompts' data, such as the right answer.
    name : str, optional
        What errors call the function; its own name by default.
    offered : mapping, optional
        Those of `OFFERED` that there are, for a function whose signature has them;
        ``completion_ids`` is a sequence of length n. What it logs is checked, and dropped.

    Returns
    -------
    ndarray of float64, shape (n,)
        Rewards in the function's own unit; NaN where it answered None, ``pandas.NA`` or NaN, which
        leaves the completion out of its group.

    Raises
    ------
    RewardError
        If the function raises, answers another number of rewards than n, or a reward is infinite,
        no number, or would be rounded. Names the function and the prompt.

    Examples
    --------
    >>> def brevity(prompts, completions, limit):
    ...     return [1 - len(c) / m if c else None for c, m in zip(completions, limit)]
    >>> score(brevity, ["Hi."] * 3, ["Hello", "", "Hi"], {"limit": [10, 10, 10]})
    array([0.5, nan, 0.8])
    """
    name = name or name_of(reward_fn)
    found = scores({name: reward_fn}, prompts, completions, columns, offered=offered)
    return found.rewards[name]


@dataclass(frozen=True)
class Scores:
    """What reward functions made of some rollouts.

    Attributes
    ----------
    rewards : mapping of str to ndarray of float64, each of shape (n,)
        By the name of the function, as `score` gives them.
    logged : mapping of str to Logged
        Likewise.
    """

    rewards: Mapping[str, NDArray[np.float64]]
    logged: Mapping[str, Logged]


def scores(
    functions: Mapping[str, RewardFunction],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    *,
    offered: Mapping[str, Any] | None = None,
) -> Scores:
    """Call several reward functions once each on all rollouts; those that wait do it together.

    Parameters
    ----------
    functions : mapping of str to callable
        By the name that errors call them.
    prompts, completions, columns, offered
        As for `score`.

    Returns
    -------
    Scores

    Raises
    ------
    RewardError
        As `score`, for the first of them; or if what one has logged cannot be recorded.
    """
    if not len(completions):
        return Scores({name: np.empty(0) for name in functions}, {})
    refuse_names(columns or {})
    given = {"prompts": prompts, "completions": completions, **(columns or {})}
    logs = {name: Log(titled(name)) for name in functions}
    answers = {
        name: called(function, {**given, **asked(function, offered or {}, logs[name])})
        for name, function in functions.items()
    }
    waiting = {name: one for name, one in answers.items() if inspect.isawaitable(one)}
    answers |= dict(zip(waiting, awaited(list(waiting.values())), strict=True))
    rewards, logged = {}, {}
    for name, answer in answers.items():
        values = listed(answer, titled(name))
        if isinstance(values, BaseException):
            place = _first_to_raise(functions[name], given, offered or {})
            raise RewardError(f"{titled(name)} {deed_of(values)}; {place}") from values
        rewards[name] = rewards_of(values, prompts, completions, titled(name))
        logged[name] = logs[name].closed(len(completions))
    return Scores(rewards, logged)


def titled(name: str) -> str:
    """Return what errors call a reward function."""
    return f"reward function {name}"


def called(function: RewardFunction, given: Mapping[str, Any]) -> Any:
    """Return what a function answers, or the exception that it raises."""
    try:
        return function(**given)
    except GradingError:
        raise  # which names the row
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- reported with the row
        return error


def listed(answer: Any, name: str) -> list[Any] | BaseException:
    """Return an answer as a list, or the exception that making it raises, as of a generator."""
    if isinstance(answer, BaseException):
        return answer
    try:
        return listed_answer(answer, name)
    except RewardError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- reported with the row
        return error


def asked(function: RewardFunction, offered: Mapping[str, Any], log: Log) -> dict[str, Any]:
    """Return those of the offers that the signature of a function has a place for."""
    offered = {**offered, **{name: getattr(log, name) for name in LOGS}}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of a builtin, which has none that can be read
        return {}
    every = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values())
    return {name: value for name, value in offered.items() if every or name in parameters}


def name_of(reward_fn: Callable[..., Any]) -> str:
    """Return the name of a function, or of the class of another callable.

    Examples
    --------
    >>> name_of(np.mean)
    'mean'
    """
    return getattr(reward_fn, "__name__", type(reward_fn).__name__)


def named(
    given: str | RewardFunction | Sequence[str | RewardFunction],
) -> list[tuple[str, RewardFunction]]:
    """Return reward functions with their names.

    Parameters
    ----------
    given : str or callable, or sequence of these
        One or several; a str is loaded.

    Returns
    -------
    list of (str, callable)
        In the order given; two may have one name.

    Raises
    ------
    RewardError
        If one cannot be loaded.

    Examples
    --------
    >>> [name for name, _ in named(["statistics:fmean", np.median])]
    ['fmean', 'median']
    """
    several = [given] if isinstance(given, str) or callable(given) else given
    return [
        (entry.rpartition(":")[2], load(entry))
        if isinstance(entry, str)
        else (name_of(entry), entry)
        for entry in several
    ]


def _first_to_raise(
    function: RewardFunction, given: Mapping[str, Sequence[Any]], offered: Mapping[str, Any]
) -> str:
    """Call again row by row, because only that tells which of the rollouts it could not take."""
    prompts, completions = given["prompts"], given["completions"]
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        one = {key: [values[row]] for key, values in given.items()}
        more = {
            key: [value[row]] if key == "completion_ids" else value
            for key, value in offered.items()
        }
        answer = called(function, {**one, **asked(function, more, Log("it"))})
        if inspect.isawaitable(answer):
            (answer,) = awaited([answer])
        if isinstance(listed(answer, ""), BaseException):
            return place_of(row, prompt, completion)
    return f"on {len(completions)} rollouts together, though on none of them alone"
