"""What a run names its sampler by: transformers, a server and its address, or a function."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import urlsplit

__all__ = ["Address", "Kind", "fault_of", "parsed"]

Kind = Literal["transformers", "continuous", "vllm", "openai", "factory"]
_FORMS = (
    "transformers, transformers-continuous, vllm:http://host:port, or file.py:factory or"
    " module:factory"
)
_HERE: dict[str, Kind] = {"transformers": "transformers", "transformers-continuous": "continuous"}


class Address(NamedTuple):
    """Which sampler, and where: the address of a server, or the name of a function."""

    kind: Kind
    place: str = ""


def parsed(spec: str) -> Address:
    """Take the name of a sampler apart.

    Examples
    --------
    >>> parsed("vllm:http://localhost:8000/")
    Address(kind='vllm', place='http://localhost:8000')
    >>> parsed("mine.py:make")
    Address(kind='factory', place='mine.py:make')
    """
    if spec in _HERE:
        return Address(_HERE[spec])
    kind, _, place = spec.partition(":")
    place = place.rstrip("/").removesuffix("/v1")
    if kind == "vllm":
        return Address("vllm", place)
    if kind == "openai":
        return Address("openai", place)
    return Address("factory", spec)


def fault_of(spec: str, *, online: bool = True) -> str | None:
    """Return why a run cannot sample with what is named, and the remedy; None if it can.

    Examples
    --------
    >>> fault_of("transformers"), fault_of("mine.py:make")
    (None, None)
    >>> fault_of("vllm:localhost:8000")
    "sampler = 'vllm:localhost:8000': 'localhost:8000' is no address; write vllm:http://host:port"
    """
    kind, place = parsed(spec)
    if spec == "transformers":
        return None
    if not online:
        return f"sampler = {spec!r}: draws for `prompts`; offline nothing is drawn"
    if kind == "openai":
        return (
            f"sampler = {spec!r}: such a server cannot be given the weights of the policy, so every"
            " completion after the first step would be another model's. Start vLLM and give"
            " vllm:URL; or draw once with `gspo-rs sample --endpoint` and train on `rollouts`"
        )
    if kind == "vllm":
        parts = urlsplit(place)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return f"sampler = {spec!r}: {place!r} is no address; write vllm:http://host:port"
    elif kind == "factory" and not all(spec.rpartition(":")[::2]):
        return f"sampler = {spec!r}: expected {_FORMS}"
    return None
