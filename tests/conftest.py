"""Where tests find real data and models: a folder beside the checkout."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from fixtures.places import ROOT

settings.register_profile("default", deadline=None)
settings.register_profile("soak", deadline=None, max_examples=5_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SHARED = Path(os.environ.get("GSPO_RS_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of scored groups and small models; a skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no shared folder at {SHARED}; point GSPO_RS_SHARED at one")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """The directory of the 260 K parameter story model."""
    return shared / "models" / "stories260K"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Answer Ctrl-C, which jobs that a script started in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as processes with one thread do: more of them order sums otherwise.

    It also spares models this small the waiting of threads for one another.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory small enough to train in a blink: it writes random letters.

    Its tokenizer has an end token and no pad token.
    """
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("letters")
    vocabulary = {symbol: number for number, symbol in enumerate("$?abcdefgh ")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="$", unk_token="?"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
