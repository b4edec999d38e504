"""GSPO in a loop of your own: a tiny policy learns which of its letters are wanted."""

import torch

import gspo_rs as gs
from gspo_rs.losses import gspo_loss, sequence_weights

VOCABULARY, LENGTH, PROMPTS, SIZE = 12, 6, 8, 8


def logprobs_of(policy: torch.nn.Module, prompts: torch.Tensor, letters: torch.Tensor):
    logits = policy(prompts)[:, None].expand(-1, LENGTH, -1)  # (B, T, V)
    return logits.log_softmax(-1).gather(-1, letters[..., None]).squeeze(-1)  # (B, T)


def main(steps: int = 40) -> list[float]:
    torch.manual_seed(0)
    policy = torch.nn.Embedding(PROMPTS, VOCABULARY)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    mask, means = torch.ones(PROMPTS * SIZE, LENGTH, dtype=torch.bool), []
    for _ in range(steps):
        prompts = torch.arange(PROMPTS).repeat(SIZE)  # interleaved: groups are found by id
        with torch.no_grad():
            letters = torch.multinomial(policy(prompts).softmax(-1), LENGTH, replacement=True)
            old_logprobs = logprobs_of(policy, prompts, letters)
        rewards = (letters == prompts[:, None]).float().mean(1)  # the share of wanted letters
        advantages = gs.advantage(rewards, prompts)
        weights = sequence_weights(mask.sum(1))
        logprobs = logprobs_of(policy, prompts, letters)
        loss, metrics = gspo_loss(logprobs, old_logprobs, advantages, mask, weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means.append(rewards.mean().item())
    print(f"reward {means[0]:.2f} -> {means[-1]:.2f}, clipped {metrics['clip/seq']:.2f}")
    return means


if __name__ == "__main__":
    main()
