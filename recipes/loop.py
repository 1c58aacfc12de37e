"""`amft-scalar` by hand, all but the tasks: `python recipes/loop.py nano --max-steps 20`.

The policy minimises (1 - mu) L_RL + mu L_SFT (arXiv 2508.06944, eq 3); mu climbs the reward U of the next step:

    dU/dmu = <grad U(theta'), dtheta'/dmu>,   dtheta'/dmu = -lr J dg/dmu,   dg/dmu = g_SFT - g_RL, clipped as g is,

J: the Jacobian of AdamW; effects fade by `horizon` a step. tests/equivalence/test_recipe_loop.py: `AMFTTrainer` agrees.
"""

import argparse
import hashlib
import itertools
import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from amft.tasks import registry


@dataclass
class Settings:
    seed: int = 0
    max_steps: int = 200
    num_prompts: int = 16  # explored per step
    num_generations: int = 8  # completions per prompt: a group
    num_demos: int = 64  # imitated per step
    max_completion_length: int = 96
    temperature: float = 1.0
    learning_rate: float = 1e-4
    max_grad_norm: float = 1.0
    meta_skip: int = 5  # AdamW's first steps are ill-conditioned: no meta-gradient from them
    mu: float = 0.1
    horizon: float = 0.8  # decay of the trace of past effects
    eta_mu: float = 1.0  # step of logit(mu) per unit of normalised meta-gradient
    eta_h: float = 2e-3  # step of logit(mu) per nat of H* - H
    dtype: str = "float32"


def seed_of(*parts):
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:8], "big") >> 1  # equal on every machine


def endless(items, seed, name):
    """The items without end; each epoch in an order of its own."""
    for epoch in itertools.count():
        order = list(range(len(items)))
        random.Random(seed_of(seed, name, epoch)).shuffle(order)
        yield from (items[i] for i in order)


def encode(tokenizer, task, problem):
    """Ids of a prompt, and of the expert's answer to it up to its end token."""
    talk = [*task.prompt(problem), {"role": "assistant", "content": task.demonstrate(problem)}]
    asked = tokenizer.apply_chat_template(talk[:-1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    asked, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, whole))
    return asked, whole[len(asked) : whole.index(tokenizer.eos_token_id, len(asked)) + 1]


def pad(prompts, completions, pad_id):
    """Prompts padded on the left, completions on the right: ids, attention mask, completion mask."""
    left, right = max(map(len, prompts)), max(map(len, completions))
    pairs = list(zip(prompts, completions, strict=True))
    ids = [[pad_id] * (left - len(p)) + p + c + [pad_id] * (right - len(c)) for p, c in pairs]
    seen = torch.tensor([[0] * (left - len(p)) + [1] * len(p + c) + [0] * (right - len(c)) for p, c in pairs])
    return torch.tensor(ids), seen, seen[:, left:].float()


@torch.no_grad()
def sample(model, prompts, s, end, generator):
    """One completion per prompt: u uniform, then the first token whose distribution function exceeds u."""
    ids, seen, _ = pad(prompts, [[]] * len(prompts), end)
    positions, cache, drawn = (seen.cumsum(1) - 1).clamp(min=0), DynamicCache(config=model.config), ids[:, :0]
    for u in torch.rand(len(prompts), s.max_completion_length, generator=generator, dtype=torch.float64).T:
        out = model(ids, seen, positions, cache, use_cache=True)
        cdf = (out.logits[:, -1].float() / s.temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
        ids = torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)
        positions, seen = positions[:, -1:] + 1, torch.cat([seen, ids * 0 + 1], 1)
        drawn = torch.cat([drawn, ids], 1)
        if (drawn == end).any(1).all():
            break
    return [row[: row.index(end) + 1] if end in row else row for row in drawn.tolist()]


def explore(model, tokenizer, task, problems, s, generator):
    """A group of rollouts per problem: batch, rewards [prompts, group], advantages [rows]."""
    repeated = [problem for problem in problems for _ in range(s.num_generations)]
    prompts = [encode(tokenizer, task, problem)[0] for problem in repeated]
    completions = sample(model, prompts, s, tokenizer.eos_token_id, generator)
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    rewards = [task.grade(problem, text).reward for problem, text in zip(repeated, texts, strict=True)]
    groups = torch.tensor(rewards).view(-1, s.num_generations)
    gain = groups - groups.mean(1, keepdim=True)
    std = (gain.square().sum(1, keepdim=True) / (s.num_generations - 1)).sqrt()
    gain = torch.where(groups.amax(1, keepdim=True) > groups.amin(1, keepdim=True), gain / (std + 1e-4), 0.0)
    return pad(prompts, completions, tokenizer.pad_token_id), groups, gain.flatten()


def token_logps(model, batch, temperature=1.0):
    """[B, C] log-probabilities of the completion tokens, and [B, C] entropies where they were drawn."""
    ids, seen, mask = batch
    positions, c = (seen.cumsum(1) - 1).clamp(min=0), mask.shape[1]
    logits = model(ids, attention_mask=seen, position_ids=positions, use_cache=False).logits[:, -c - 1 : -1]
    logps = (logits / temperature).log_softmax(-1)
    return logps.gather(-1, ids[:, -c:, None])[..., 0], -(logps.detach().exp() * logps.detach()).sum(-1)


def rl_loss(model, batch, advantages, s):
    """DAPO's token mean of -A pi/pi_old, and the entropy H. Rollouts are fresh: pi/pi_old is 1 and never clipped."""
    logps, entropy = token_logps(model, batch, s.temperature)
    gain = (logps - logps.detach()).exp() * advantages[:, None]
    return -(gain * batch[2]).sum() / batch[2].sum(), float((entropy * batch[2]).sum() / batch[2].sum())


def dot(xs, ys):
    return sum(float((x * y).sum()) for x, y in zip(xs, ys, strict=True))


def clip(g, d, limit):
    """g' = s g with s = limit / |g|, and what d = dg/dmu becomes, since s depends on mu too."""
    norm = math.sqrt(dot(g, g))
    s, along = (limit / (norm + 1e-6), dot(g, d) / (norm * (norm + 1e-6))) if norm + 1e-6 > limit else (1.0, 0.0)
    return [s * x for x in g], [s * (y - along * x) for x, y in zip(g, d, strict=True)], norm


def adamw_effect(optimizer, params, d, past, decay):
    """decay past + lr J d: with u = m_hat / (sqrt(v_hat) + eps), J = du/dg is diagonal and known after the step."""
    (group,), effect = optimizer.param_groups, []
    (b1, b2), lr, eps = group["betas"], group["lr"], group["eps"]
    for p, change, before in zip(params, d, past or [0.0] * len(d), strict=True):
        state = optimizer.state[p]
        c1, c2 = 1 - b1 ** float(state["step"]), 1 - b2 ** float(state["step"])
        m, root = state["exp_avg"] / c1, (state["exp_avg_sq"] / c2).sqrt()
        slope = ((1 - b1) / c1 - m / (root + eps) * p.grad / root * (1 - b2) / c2) / (root + eps)
        effect.append(decay * before + lr * torch.where(root > 0, slope, 0.0) * change)  # never a gradient: no effect
    return effect


def new_mu(mu, n, m, v, meta_grad, gap, s):
    """Eq 6 on logit(mu), with the meta-gradient normalised as Adam does (decays 0.9, 0.99).

    n, m, v: observations so far and Adam's two moments. gap: H* - H, nats.
    """
    push = 0.0
    if meta_grad is not None:
        if n >= 5 and v > 0:  # one outlier counts as ten root mean squares at most
            limit = 10 * math.sqrt(v / (1 - 0.99**n))
            meta_grad = min(max(meta_grad, -limit), limit)
        n, m, v = n + 1, 0.9 * m + 0.1 * meta_grad, 0.99 * v + 0.01 * meta_grad**2
        push = m / (1 - 0.9**n) / math.sqrt(v / (1 - 0.99**n)) if v > 0 else 0.0
    x = math.log(mu / (1 - mu)) + s.eta_mu * push + s.eta_h * gap
    moved = 1 / (1 + math.exp(-x))
    return min(max(moved, mu - 0.2, 0.05), mu + 0.2, 0.95), n, m, v


def train(directory, task, s):
    """Yields a row of metrics per step."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, s.dtype), attn_implementation="eager")
    params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=s.learning_rate, weight_decay=0.0)

    # Every stream of draws has a seed of its own.
    draws = torch.Generator().manual_seed(seed_of(s.seed, "rollouts"))
    aside = torch.Generator().manual_seed(seed_of(s.seed, "entropy target", 0))
    demos = demonstrations(tokenizer, task, s)
    n_prompts = min(8192, s.max_steps * s.num_prompts)
    tried = endless(task.problems("train", seed=seed_of(s.seed, "task", "prompts"), n=n_prompts), s.seed, "prompts")
    held_out = endless(task.problems("meta", seed=seed_of(s.seed, "task", "meta")), s.seed, "meta")

    # H*: the policy's entropy on prompts that it is not trained on.
    batch, _, gain = explore(model, tokenizer, task, itertools.islice(held_out, s.num_prompts), s, aside)
    target = rl_loss(model, batch, gain, s)[1]

    mu, moments, effect = s.mu, (0, 0.0, 0.0), None
    for step in range(s.max_steps):
        # Explore: rollouts, their rewards, and the gradient of L_RL.
        batch, rewards, gain = explore(model, tokenizer, task, itertools.islice(tried, s.num_prompts), s, draws)
        loss, entropy = rl_loss(model, batch, gain, s)
        g_rl = torch.autograd.grad(loss, params)

        # Learn the balance: g_rl is -grad U at the new parameters, and `effect` is -dtheta'/dmu (eq 5); then eq 6.
        meta_grad = None if effect is None else dot(g_rl, effect)
        mu, *moments = new_mu(mu, *moments, meta_grad, target - entropy, s)

        # Imitate: the gradient of L_SFT on the next demonstrations (eq 2).
        batch = pad(*zip(*itertools.islice(demos, s.num_demos), strict=True), tokenizer.pad_token_id)
        imitation = -(token_logps(model, batch)[0] * batch[2]).sum() / batch[2].sum()
        g_sft = torch.autograd.grad(imitation, params)

        # Mix (eq 3), clip, step; and follow what a little more mu would have changed through all of it.
        mix = [(1 - mu) * a + mu * b for a, b in zip(g_rl, g_sft, strict=True)]
        change = [b - a for a, b in zip(g_rl, g_sft, strict=True)]
        grads, change, norm = clip(mix, change, s.max_grad_norm)
        for p, g in zip(params, grads, strict=True):
            p.grad = g
        optimizer.step()
        effect = adamw_effect(optimizer, params, change, effect, s.horizon) if step >= s.meta_skip else None

        row = {"mix/mu": mu, "reward": float(rewards.mean()), "entropy": entropy, "mix/meta_grad": meta_grad}
        yield row | {"policy_loss": loss.item(), "sft/loss": imitation.item(), "grad_norm": norm}


def demonstrations(tokenizer, task, s):
    """Endless pairs of prompt and answer from the task's expert; those too long to be sampled are left out."""
    n = min(8192, s.max_steps * s.num_demos)
    problems = task.problems("train", seed=seed_of(s.seed, "task", "demonstrations"), n=n)
    pairs = [encode(tokenizer, task, problem) for problem in problems]
    return endless([pair for pair in pairs if len(pair[1]) <= s.max_completion_length], s.seed, "demonstrations")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="nano, or a model directory")
    for name, default in asdict(Settings()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    chosen = vars(parser.parse_args())
    nano = Path(registry.__file__).parents[1] / "models" / "nano_base"
    directory = {"nano": nano}.get(name := chosen.pop("model"), name)
    for row in tqdm(train(directory, registry.build_task("general_points"), Settings(**chosen)), unit="step"):
        tqdm.write("  ".join(f"{name} {value:.4g}" for name, value in row.items() if value is not None))
