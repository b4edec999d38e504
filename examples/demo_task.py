"""The demo's task: put the letters of a word in alphabetical order, one letter a token.

Small enough to be learnt in seconds, and graded: a completion earns the share of letters that
stand in their right place.
"""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LETTERS = "abcdefghijkl"
SHORTEST, LONGEST = 4, 8


def reward(completions: list[str], answer: list[str], **_: object) -> list[float]:
    """Share of places with the right letter; a letter too many or too few is a wrong place."""
    return [
        sum(a == b for a, b in zip(completion, right, strict=False))
        / max(len(completion), len(right))
        for completion, right in zip(completions, answer, strict=True)
    ]


def same_length(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """1 where there are as many letters as in the prompt; a second reward for the guides."""
    pairs = zip(prompts, completions, strict=True)
    return [float(len(completion) == len(prompt.rstrip(">"))) for prompt, completion in pairs]


def words(rng: random.Random, count: int) -> list[dict[str, str]]:
    """Return `count` rows: a prompt such as ``dab>`` and its answer ``abd``."""
    rows = []
    for _ in range(count):
        letters = rng.choices(LETTERS, k=rng.randint(SHORTEST, LONGEST))
        rows.append({"prompt": f"{''.join(letters)}>", "answer": "".join(sorted(letters))})
    return rows


def careless(answer: str, rng: random.Random, slips: float = 0.45) -> str:
    """Return what a careless teacher writes: `answer`, with some of its letters astray.

    Each slip swaps a letter with its neighbour or writes a random one, so that a pupil learns
    both the order and the carelessness.
    """
    letters = list(answer)
    for place in range(len(letters)):
        if rng.random() >= slips:
            continue
        if rng.random() < 0.5 and place:
            letters[place - 1], letters[place] = letters[place], letters[place - 1]
        else:
            letters[place] = rng.choice(LETTERS)
    return "".join(letters)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per letter, and those that pad and end."""
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<end>", ">", *LETTERS])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=letters, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )


def newborn(vocabulary_size: int, seed: int) -> LlamaForCausalLM:
    """Return a language model of random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary_size,
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
            tie_word_embeddings=True,
        )
    )


def teach(model, letters, rng: random.Random, *, steps: int, batch: int = 128):
    """Teach `model` the task badly: supervised steps on careless demonstrations.

    Yields the loss after each step, in nats per letter.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = words(rng, batch)
        texts = [row["prompt"] + careless(row["answer"], rng) + "<end>" for row in rows]
        batched = letters(texts, return_tensors="pt", padding=True, padding_side="right")
        prompt_lengths = torch.tensor([len(row["prompt"]) for row in rows])
        places = torch.arange(batched["input_ids"].shape[1])
        graded = (places >= prompt_lengths[:, None]) & batched["attention_mask"].bool()
        labels = batched["input_ids"].masked_fill(~graded, -100)
        loss = model(**batched, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()
