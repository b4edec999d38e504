"""Reward functions of the user, called once per batch of rollouts.

The signature is TRL's [1]_: ``f(prompts, completions, **columns) -> list[float | None]``, one
reward per completion, None for a completion that could not be judged.

References
----------
.. [1] TRL, "GRPO Trainer: using a custom reward function".
"""

import difflib
import importlib
import importlib.util
import numbers
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What every reward function is given beside the columns of the prompts.
GIVEN = ("prompts", "completions")
RewardFunction = Callable[..., Sequence[float | None]]


class RewardError(ValueError):
    """A reward function failed, or did not return a list of rewards."""


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
        raise RewardError(f"{subject} {_deed(error)}{_line_of(error)}") from error


def _deed(error: BaseException) -> str:
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
    """Raise a RewardError for a column with the name of what every reward function is given."""
    for name in columns:
        if name in GIVEN:
            raise RewardError(
                f"column {name!r} of {source} cannot go to a reward function, which is given "
                f"{' and '.join(map(repr, GIVEN))} of its own; rename the column, or drop it"
            )


def score(
    reward_fn: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]] | None = None,
    *,
    name: str | None = None,
) -> NDArray[np.float64]:
    """Call `reward_fn` once on all rollouts and check what it returns.

    Parameters
    ----------
    reward_fn : callable
        ``f(prompts=..., completions=..., **columns)``, answering one number or None each.
    prompts, completions : sequence of str, or of lists of chat messages, length n
        One pair per rollout.
    columns : mapping of str to sequence, each of length n, optional
        Further columns of the prompts' data, such as the right answer.
    name : str, optional
        What errors call the function; its own name by default.

    Returns
    -------
    ndarray of float64, shape (n,)
        Rewards in the function's own unit; NaN where it answered None or NaN, which leaves the
        completion out of its group.

    Raises
    ------
    RewardError
        If the function raises, answers another number of rewards than n, or a reward is infinite
        or no number. Names the function and the prompt.

    Examples
    --------
    >>> def brevity(prompts, completions, limit):
    ...     return [1 - len(c) / m if c else None for c, m in zip(completions, limit)]
    >>> score(brevity, ["Hi."] * 3, ["Hello", "", "Hi"], {"limit": [10, 10, 10]})
    array([0.5, nan, 0.8])
    """
    if not len(completions):
        return np.empty(0)
    name = f"reward function {name or name_of(reward_fn)}"
    columns = columns or {}
    refuse_names(columns)
    try:
        values: Any = reward_fn(prompts=prompts, completions=completions, **columns)
    except (Exception, SystemExit) as error:
        place = _first_to_raise(reward_fn, prompts, completions, columns)
        raise RewardError(f"{name} {_deed(error)}; {place}") from error
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise RewardError(f"{name} answered a {type(values).__name__}, not a list of rewards")
    if len(values) != len(completions):
        raise RewardError(
            f"{name} answered {len(values)} rewards for {len(completions)} completions, "
            f"the first of prompt {_quoted(prompts[0]) if prompts else '-'}"
        )
    return np.array(
        [
            _number(value, name, row=row, prompt=prompts[row], completion=completions[row])
            for row, value in enumerate(values)
        ],
        dtype=np.float64,
    )


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


def _number(value: Any, name: str, *, row: int, prompt: Any, completion: Any) -> float:
    if value is None:
        return float("nan")
    place = f"row {row}, prompt {_quoted(prompt)}, completion {_quoted(completion)}"
    if not isinstance(value, numbers.Real):
        raise RewardError(
            f"{name} answered {value!r} ({type(value).__name__}) for {place}; "
            "a reward is a number, or None to leave the completion out"
        )
    reward = float(value)
    if reward in (float("inf"), float("-inf")):
        raise RewardError(f"{name} answered {reward} for {place}; a reward is finite, or None")
    return reward


def _first_to_raise(
    reward_fn: RewardFunction,
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
) -> str:
    """Call again row by row, because only that tells which of the rollouts it could not take."""
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        one = {key: [values[row]] for key, values in columns.items()}
        try:
            reward_fn(prompts=[prompt], completions=[completion], **one)
        except (Exception, SystemExit):  # noqa: BLE001 -- the caller raises the batch's own error
            return f"row {row}, prompt {_quoted(prompt)}, completion {_quoted(completion)}"
    return f"on {len(completions)} rollouts together, though on none of them alone"


def _quoted(said: Any, limit: int = 80) -> str:
    if not isinstance(said, str):  # messages
        said = " ".join(str(message.get("content")) for message in said)
    return repr(said if len(said) <= limit else said[: limit - 1] + "…")
