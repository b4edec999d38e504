"""A game of three turns with a tool: guess a letter, be told whether to go up or down.

The model guesses one of seven letters. A tool, `compare`, answers `<` (the letter comes earlier),
`>` (later), `=` (that is it) or `?` (no letter). With three guesses, a model that reads the answers
always wins; one that does not wins three games in seven. `play` is a rollout function: it says
which tokens the model sampled and which the tool wrote, and gives the reward.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gspo_rs.rollouts import Ragged, Rollouts
from gspo_rs.train import Result, train

LETTERS = "abcdefg"
TURNS = 3


def compare(guess: str, secret: str) -> str:
    """Return what the tool says of a guess."""
    if guess not in tuple(LETTERS):
        return "?"
    return "=" if guess == secret else "<" if secret < guess else ">"


def play(sampler, prompts, secret, **_) -> Rollouts:
    """Play `num_generations` games for each prompt, all at once, turn after turn."""
    size, tokenizer = sampler.num_generations, sampler.tokenizer
    secrets = [letter for letter in secret for _ in range(size)]
    texts = [text for text in prompts for _ in range(size)]
    starts = tokenizer(texts)["input_ids"]
    tokens, sampled, logprobs = ([[] for _ in secrets] for _ in range(3))
    reward = np.zeros(len(secrets))
    playing = list(range(len(secrets)))
    for _turn in range(TURNS):
        so_far = [starts[game] + tokens[game] for game in playing]
        guesses = sampler.generate(so_far, num_generations=1, max_completion_length=1)
        for place, game in enumerate(playing):
            guess = guesses.completion_tokens.row(place).tolist()
            answer = compare(tokenizer.decode(guess), secrets[game])
            told = tokenizer.convert_tokens_to_ids([answer])
            tokens[game] += [*guess, *told]
            sampled[game] += [True] * len(guess) + [False] * len(told)
            logprobs[game] += [*guesses.sampler_logprobs.row(place), *[0.0] * len(told)]
            reward[game] = float(answer == "=")
        playing = [game for game in playing if not reward[game]]
        if not playing:
            break
    return Rollouts(
        offsets=np.arange(len(prompts) + 1) * size,
        prompts=texts,
        completions=[tokenizer.decode(game) for game in tokens],
        reward=reward,
        prompt_tokens=Ragged.from_rows(starts, np.int64),
        completion_tokens=Ragged.from_rows(tokens, np.int64),
        completion_mask=Ragged.from_rows(sampled, np.bool_),
        sampler_logprobs=Ragged.from_rows(logprobs, np.float32),
    )


def newborn() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Return a model of random weights that writes letters, and its tokenizer."""
    vocabulary = {token: i for i, token in enumerate(["<end>", *"?<>=", *LETTERS])}
    letters = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config), tokenizer


def main(output: Path = Path("runs/guessing"), steps: int = 100) -> Result:
    """Train, and return the result of the run."""
    model, tokenizer = newborn()
    return train(
        model=model,
        tokenizer=tokenizer,
        prompts=[{"prompt": "?", "secret": letter} for letter in LETTERS],
        rollout=play,
        algorithm="grpo",
        reduction="token_mean",
        clip_high=0.28,
        num_generations=16,
        max_completion_length=2 * TURNS,
        prompts_per_step=7,
        steps_per_generation=1,
        max_steps=steps,
        learning_rate=1e-2,
        eval_size=7,
        eval_steps=0,
        save_steps=0,
        output_dir=str(output),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/guessing"))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = main(options.output, options.steps)
    print(f"reward {result.metrics['reward/mean']:.2f}")
