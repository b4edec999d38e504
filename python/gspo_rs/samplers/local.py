"""Completions of a model that is loaded here, for prompts in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gspo_rs._core import file_digest
from gspo_rs.samplers.sampled import Sampled
from gspo_rs.samplers.transformers import generate

__all__ = ["LocalModel"]

_WEIGHTS = ("*.safetensors", "*.json", "*.model", "*.jinja")


class LocalModel:
    """Draws completions of texts or chat messages with transformers.

    Parameters
    ----------
    name : str
        Folder or name of the hub.
    sampling : mapping
        ``max_tokens``, ``temperature``, ``top_p``, ``top_k`` and ``stop``.
    device : str
        Where it computes; "auto" is a GPU if there is one.
    """

    def __init__(self, name: str, *, sampling: Mapping[str, Any], device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self._sampling = name, dict(sampling)
        # No code of the model's own is run.
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)
        self._model = loaded.to(device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run that goes on must have the same: the files, or the name on the hub."""
        folder = Path(self.model)
        files = sorted(path for pattern in _WEIGHTS for path in folder.glob(pattern))
        found: Any = {path.name: file_digest(path) for path in files} or self.model
        return {"model": found}

    def draw(self, prompts: Sequence[Any], n: int, *, first: int, seed: int) -> list[list[Sampled]]:
        """Draw `n` completions of each prompt; a function of the seed and of where it stands.

        Parameters
        ----------
        prompts : sequence of str, or of lists of chat messages
        n : int
        first : int
            The number of the first of them.
        seed : int
        """
        chat = bool(len(prompts)) and not isinstance(prompts[0], str)
        texts = [self._rendered(one) for one in prompts] if chat else list(prompts)
        how = dict(self._sampling)
        found = generate(
            self._model,
            self._tokenizer,
            texts,
            num_generations=n,
            max_completion_length=how.pop("max_tokens"),
            add_special_tokens=not chat,
            prompt_numbers=range(first, first + len(texts)),
            seed=seed,
            **how,
        )
        assert found.prompt_tokens is not None
        assert found.completion_tokens is not None
        assert found.sampler_logprobs is not None
        assert found.truncated is not None
        drawn = [
            Sampled(
                found.completions[row],
                "length" if found.truncated[row] else "stop",
                seed,
                found.prompt_tokens.row(row).tolist(),
                found.completion_tokens.row(row).tolist(),
                found.sampler_logprobs.row(row).tolist(),
            )
            for row in range(found.n_rollouts)
        ]
        return [drawn[at : at + n] for at in range(0, len(drawn), n)]

    def _rendered(self, messages: Any) -> str:
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        return str(self._tokenizer.apply_chat_template(messages, **options))
