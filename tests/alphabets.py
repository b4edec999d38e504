"""Tokenizers of every kind, made in the test: none but their own training text is needed."""

from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Once upon a time there was a little dog. The dog had a ball, and the ball was red.",
    "2+2=4, 12+12=24 and 22+22=44; what is 4+4? It is 8.",
    "the cat and the hat sat on the mat\nthen they ran\n\nthat was that 😀😀 é é",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<think>", "<|im_start|>", "<|im_end|>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def wrapped(tokenizer: Tokenizer, frame: str = "<s> $A", **options: Any) -> PreTrainedTokenizerFast:
    """Frame every text as `frame` says, and let transformers have it."""
    known = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    pieces = TemplateProcessing(frame, special_tokens=list(known.items()))
    own = tokenizer.post_processor
    tokenizer.post_processor = pieces if own is None else Sequence([own, pieces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=SPECIAL[4:],
        **options,
    )


def byte_level(frame: str = "<s> $A", *, trim: bool = True, **options: Any) -> Any:
    """As GPT-2 has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrapped(tokenizer, frame, **options)


def metaspace(
    frame: str = "<s> $A", *, scheme: str = "first", kind: str = "bpe", **options: Any
) -> Any:
    """As SentencePiece has it: a text begins with a blank; what is unknown is written in bytes."""
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        trainer = trainers.BpeTrainer(
            vocab_size=500, special_tokens=[*SPECIAL, *BYTES], show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return wrapped(tokenizer, frame, **options)


def prepending(frame: str = "<s> $A", **options: Any) -> Any:
    """As the first Llama has it: a normalizer writes the blank, and nothing cuts words apart."""
    made = metaspace(frame, scheme="never", **options)
    inner = made.backend_tokenizer
    inner.pre_tokenizer = None
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return made


def letters(frame: str = "$A", **options: Any) -> Any:
    """One token for each character."""
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *"?abcdefgh 0123456789+="])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return wrapped(tokenizer, frame, **options)


WHOLE: dict[str, Callable[..., Any]] = {
    "byte level": byte_level,
    "byte level, untrimmed": lambda *a, **k: byte_level(*a, trim=False, **k),
    "metaspace first": metaspace,
    "metaspace always": lambda *a, **k: metaspace(*a, scheme="always", **k),
    "prepended": prepending,
}
"""Those that write every text."""

KINDS = {**WHOLE, "unigram": lambda *a, **k: metaspace(*a, kind="unigram", **k), "letters": letters}
