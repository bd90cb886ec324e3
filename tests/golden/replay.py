"""Whole steps in float64, from rewards to advantages to the loss and its coefficients, by TRL's and verl's own functions.

    python tests/golden/replay.py

The functions are those of losses.py. Each case names the settings of `patarm replay` that stand for it; the batches are given as a
file of rollouts gives them. Beside the cases: verl's `kl_penalty` summed over the tokens of each sequence, as its trainer subtracts it
from outcome rewards, and TRL's `get_soft_overlong_punishment`.

Rewards differ inside every group: here a group without an advantage leaves the loss and its denominators, there it stays. verl's
seq-mean-token-mean adds 1e-8 to lengths and is left to the comparison of losses.
"""

import json

import torch
from trl.rewards import get_soft_overlong_punishment
from verl.trainer.ppo import core_algos

import cases
from losses import LENGTHS, batch, gradients, trl_advantages, trl_loss, verl_advantages, verl_loss

REWARDS = [1.2, 0.0, 1.4, 1.2, 0.0, -1.5, 0.0, 1.4, -1.0, 1.2, 0.0, 1.4]
GROUPS = [i // 4 for i in range(12)]
TRL = {
    "grpo": (dict(kind="grpo", low=0.2, high=0.2), {}),
    "grpo_on_policy": (dict(kind="grpo", low=0.2, high=0.2, on_policy=True), {}),
    "grpo_kl": (dict(kind="grpo", low=0.2, high=0.2, beta=0.04), {"loss.kl": 0.04}),
    "grpo_kl_entropy": (dict(kind="grpo", low=0.2, high=0.2, beta=0.04, entropy_coef=0.01), {"loss.kl": 0.04, "loss.entropy": 0.01}),
    "grpo_dual": (dict(kind="grpo", low=0.2, high=0.2, delta=3.0), {"loss.dual_clip": 3.0}),
    "gspo": (dict(kind="grpo", low=0.05, high=0.1, level="sequence"), {"loss.loss": "gspo"}),
    "gspo_on_policy": (dict(kind="grpo", low=0.05, high=0.1, level="sequence", on_policy=True), {"loss.loss": "gspo"}),
    "gspo_kl_entropy": (
        dict(kind="grpo", low=0.05, high=0.1, level="sequence", beta=0.04, entropy_coef=0.01),
        {"loss.loss": "gspo", "loss.kl": 0.04, "loss.entropy": 0.01},
    ),
    "gspo_dual": (dict(kind="grpo", low=0.05, high=0.1, level="sequence", delta=3.0), {"loss.loss": "gspo", "loss.dual_clip": 3.0}),
    "dr_grpo": (dict(kind="dr_grpo", low=0.2, high=0.2), {"loss.loss": "dr_grpo", "loss.constant": 16}),
    "dr_grpo_kl": (dict(kind="dr_grpo", low=0.2, high=0.2, beta=0.04), {"loss.loss": "dr_grpo", "loss.constant": 16, "loss.kl": 0.04}),
    "dapo": (dict(kind="dapo", low=0.2, high=0.28), {"loss.loss": "dapo"}),
    "dapo_kl_entropy": (dict(kind="dapo", low=0.2, high=0.28, beta=0.1, entropy_coef=0.02), {"loss.loss": "dapo", "loss.kl": 0.1, "loss.entropy": 0.02}),
    "dapo_dual": (dict(kind="dapo", low=0.2, high=0.28, delta=3.0), {"loss.loss": "dapo", "loss.dual_clip": 3.0}),
}
SCALES = {"group": {}, "none": {"advantage.estimator": "grpo_without_std"}, "batch": {"advantage.estimator": "grpo_batch_std"}}
VERL = {
    "token_mean": (dict(mode="token-mean", low=0.2, high=0.28), {"loss.loss": "dapo"}),
    "token_mean_dual": (dict(mode="token-mean", low=0.2, high=0.28, dual=3.0), {"loss.loss": "dapo", "loss.dual_clip": 3.0}),
    "sum_norm": (dict(mode="seq-mean-token-sum-norm", low=0.2, high=0.2, scale=16), {"loss.loss": "dr_grpo", "loss.constant": 16}),
    "sum_norm_dual": (
        dict(mode="seq-mean-token-sum-norm", low=0.2, high=0.28, dual=3.0, scale=16),
        {"loss.loss": "dr_grpo", "loss.constant": 16, "loss.dual_clip": 3.0},
    ),
}
ESTIMATORS = {
    "grpo": ({"epsilon": 1e-6}, {"advantage.eps": 1e-6}),
    "rloo": ({}, {"advantage.estimator": "rloo"}),
    "reinforce_plus_plus_baseline": ({}, {"advantage.estimator": "reinforce_plus_plus"}),
}
BETA = 0.05


def kept(matrix, mask):
    """The numbers of the tokens that count, sequence by sequence."""
    return [row[keep.bool()].tolist() for row, keep in zip(torch.tensor(matrix), mask)]


def case(data, name, settings, clip, advantages, result):
    shown = {"loss.clip_low": clip["low"], "loss.clip_high": clip["high"]} | settings
    return {
        "name": name, "settings": shown, "on_policy": clip.get("on_policy", False), "advantages": advantages.tolist(),
        "loss": result["loss"], "d_logprob": kept(result["d_logprob"], data["mask"]),
    }


def trl_cases(data, rewards):
    """Every loss of TRL's that is one of ours, and its three ways to scale rewards by turns."""
    counts_empty = any(not row.any() for row in data["mask"])
    for i, (name, (call, settings)) in enumerate(TRL.items()):
        if counts_empty and call["kind"] != "dapo":
            continue  # TRL counts a sequence without a token in the mean over sequences
        scale, estimator = list(SCALES.items())[i % 3]
        advantages = trl_advantages(rewards, 4, scale)
        result = trl_loss(data | {"advantage": advantages}, **call)
        yield case(data, f"trl_{name}_{scale}", settings | estimator, call, advantages, result)


def reward_kl(data, estimator):
    """What verl's trainer takes from each sequence's reward for a coefficient of 1."""
    return (core_algos.kl_penalty(data["old_logprob"], data["reference_logprob"], estimator) * data["mask"]).sum(-1)


def verl_cases(data, rewards):
    """verl's losses with each of its estimators, with and without a KL in the reward, and k2 in the loss."""
    lengths = [int(n) for n in data["mask"].sum(-1)]
    vanilla = core_algos.compute_policy_loss_vanilla
    combined = [(e, l, None) for e in ESTIMATORS for l in VERL] + [(e, "token_mean", f"k{i + 1}") for i, e in enumerate(ESTIMATORS)]
    combined += [("rloo", "sum_norm", "k1"), ("rloo", "sum_norm", "k2"), ("rloo", "sum_norm", "k3")]
    for estimator, loss, kl in combined:
        (given, ours), (call, settings) = ESTIMATORS[estimator], VERL[loss]
        shaped = rewards - BETA * reward_kl(data, kl) if kl else rewards
        advantages = verl_advantages(getattr(core_algos, f"compute_{estimator}_outcome_advantage"), shaped, GROUPS, lengths, **given)
        result = verl_loss(data | {"advantage": advantages}, vanilla, **call)
        extra = {"reward_kl.coefficient": BETA, "reward_kl.form": kl} if kl else {}
        yield case(data, f"verl_{estimator}_{loss}_{kl}", settings | ours | extra, call, advantages, result)
    advantages = verl_advantages(core_algos.compute_rloo_outcome_advantage, rewards, GROUPS, lengths)
    call, settings = VERL["token_mean"]
    policy = verl_loss(data | {"advantage": advantages}, vanilla, **call)
    logprob = data["logprob"].clone().requires_grad_()
    term = BETA * core_algos.agg_loss(core_algos.kl_penalty(logprob, data["reference_logprob"], "k2"), data["mask"], "token-mean")
    kl = gradients(term, logprob, data["entropy"].clone().requires_grad_())
    both = {"loss": policy["loss"] + kl["loss"], "d_logprob": (torch.tensor(policy["d_logprob"]) + torch.tensor(kl["d_logprob"])).tolist()}
    extra = {"loss.kl": BETA, "loss.kl_form": "k2", "advantage.estimator": "rloo"}
    yield case(data, "verl_rloo_token_mean_k2_in_the_loss", settings | extra, call, advantages, both)


def main():
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(12)
    batches = []
    for name, masked_row in [("every_sequence_counts", False), ("one_sequence_is_masked", True)]:
        data = batch(generator, masked_row)
        nearer = torch.minimum(data["reference_logprob"], data["old_logprob"] + 2.0)  # verl clamps k3 at 10: none is beyond
        data["reference_logprob"] = nearer.float().double()
        rewards = torch.tensor(REWARDS)
        if masked_row:
            rewards[4] = torch.nan
        steps = list(trl_cases(data, rewards))
        if not masked_row:
            steps += verl_cases(data, rewards)
        inputs = {k: data[k].tolist() for k in ["mask", "logprob", "old_logprob", "reference_logprob", "entropy"]}
        batches.append({
            "name": name, "lengths": LENGTHS, "inputs": inputs, "groups": GROUPS,
            "rewards": [None if r != r else r for r in rewards.tolist()], "cases": steps,
            "reward_kl": {form: reward_kl(data, form).tolist() for form in ["k1", "k2", "k3"]},
        })
    overlong = []
    for limit, cache in [(100, 20), (64, 64), (7, 3)]:
        lengths = list(range(0, limit + 10, max(limit // 13, 1)))
        penalties = get_soft_overlong_punishment(limit, cache)([[0] * n for n in lengths])
        overlong.append({"limit": limit, "cache": cache, "lengths": lengths, "penalties": penalties})
    path = cases.FOLDER / "replay.json"
    path.write_text(json.dumps({"batches": batches, "overlong": overlong}, allow_nan=False) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes, {[len(b['cases']) for b in batches]} cases")
    cases.record_versions("replay.py", ["torch", "trl", "verl", "numpy"])


if __name__ == "__main__":
    main()
