"""Advantages, losses and their gradients in float64, from the functions of the installed TRL and verl: nothing is retyped.

    python tests/golden/losses.py

Where each value comes from (every record in losses.json repeats it as `source`):

- trl/trainer/grpo_trainer.py, `GRPOTrainer._compute_loss`: losses grpo, dapo, bnpo, dr_grpo, sequence-level ratios, k3 in the loss, entropy
  bonus, upper clip `delta`. It is called unbound on an object that carries the settings it reads; the per-token log-probabilities and
  entropies that its model would have given are our leaf tensors, so autograd returns dL/dlogp and dL/dH. One optimizer step is one
  micro-batch.
- trl/trainer/grpo_trainer.py, `GRPOTrainer._generate_and_score_completions`: advantages with and without std, failed judgements as NaN
  rewards outside mean, std and n (eps 1e-4, sample std).
- trl/trainer/utils.py, `selective_log_softmax_and_entropy`: log-probability and entropy from logits, with the gradient of the logits.
- verl/trainer/ppo/core_algos.py: `compute_grpo_outcome_advantage` (eps 1e-6), `compute_rloo_outcome_advantage`,
  `compute_reinforce_plus_plus_baseline_outcome_advantage` (whitened over tokens, var + 1e-8), `compute_policy_loss_vanilla` (dual clip,
  ratio exponent clamped to +-20), `compute_policy_loss_gspo`, `kl_penalty`, `agg_loss`.

Where they differ: verl's seq-mean-token-mean divides by (tokens + 1e-8) and leaves fully masked sequences out of the mean, TRL's grpo
divides by max(tokens, 1) and counts them; TRL's std has eps 1e-4, verl's 1e-6.
"""

import collections
import json
import types

import numpy
import torch
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import selective_log_softmax_and_entropy
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

import cases

LENGTHS = [11, 7, 1, 5, 3, 11, 2, 8, 6, 4, 9, 10]
WIDTH = max(LENGTHS)


def batch(generator, masked_row):
    """Twelve sequences: prefix masks, one hole inside a sequence, where asked one sequence without any token.

    What a rollout's record keeps is rounded to float32, as the record does, so that files of rollouts say the same."""
    shape = (len(LENGTHS), WIDTH)
    mask = (torch.arange(WIDTH)[None] < torch.tensor(LENGTHS)[:, None]).double()
    mask[1, 3] = 0.0
    if masked_row:
        mask[4] = 0.0
    noise = lambda scale: scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    logprob = -0.05 - 3.0 * torch.rand(shape, generator=generator, dtype=torch.float64)
    old = logprob + noise(0.25)
    old[5] = logprob[5] - 1.5  # ratios of 4.5: beyond a dual clip of 3
    advantage = torch.randn(len(LENGTHS), generator=generator, dtype=torch.float64)
    advantage[5], advantage[8] = -1.3, 0.0
    entropy = 4.0 * torch.rand(shape, generator=generator, dtype=torch.float64)
    stored = {"logprob": logprob, "old_logprob": old, "reference_logprob": logprob + noise(0.6), "entropy": entropy}
    return {"mask": mask} | {k: v.float().double() for k, v in stored.items()} | {"advantage": advantage}


def gradients(loss, logprob, entropy):
    """The loss with dL/dlogp and dL/dH, [sequence][token]."""
    grads = torch.autograd.grad(loss, [logprob, entropy], allow_unused=True)
    grads = [torch.zeros_like(logprob) if g is None else g for g in grads]
    return {"loss": loss.item(), "d_logprob": grads[0].tolist(), "d_entropy": grads[1].tolist()}


def trl_loss(data, kind, low, high, beta=0.0, entropy_coef=0.0, level="token", delta=None, on_policy=False, constant=16):
    """One call of TRL's own `_compute_loss` on leaf tensors."""
    logprob, entropy = data["logprob"].clone().requires_grad_(), data["entropy"].clone().requires_grad_()
    accelerator = types.SimpleNamespace(
        num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, reduction: x, gather_for_metrics=lambda x: x
    )
    trainer = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprob, entropy, None),
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=delta, steps_per_generation=1),
        model=types.SimpleNamespace(training=True), accelerator=accelerator, _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level=level,
        beta=beta, loss_type=kind, epsilon_low=low, epsilon_high=high, use_vllm=False, vllm_importance_sampling_correction=False,
        current_gradient_accumulation_steps=1, max_completion_length=constant, _entropy_bonus_enabled=entropy_coef != 0.0,
        use_adaptive_entropy=False, entropy_coef=entropy_coef,
    )
    ids = torch.zeros_like(data["mask"], dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": torch.ones_like(ids[:, :1]), "completion_ids": ids, "completion_mask": data["mask"],
        "advantages": data["advantage"], "ref_per_token_logps": data["reference_logprob"], "num_items_in_batch": data["mask"].sum(),
    }
    if not on_policy:
        inputs["old_per_token_logps"] = data["old_logprob"]
    return gradients(GRPOTrainer._compute_loss(trainer, None, inputs), logprob, entropy)


def verl_loss(data, function, mode, low, high, dual=1e6, scale=None):
    """One of verl's policy losses."""
    logprob, entropy = data["logprob"].clone().requires_grad_(), data["entropy"].clone().requires_grad_()
    config = ActorConfig(strategy="fsdp", rollout_n=4, use_dynamic_bsz=True, clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=dual)
    config.global_batch_info["loss_scale_factor"] = scale
    advantages = data["advantage"][:, None].expand_as(logprob)
    loss, _ = function(data["old_logprob"], logprob, advantages, data["mask"], mode, config)
    return gradients(loss, logprob, entropy)


def verl_kl(data, estimator, mode):
    """verl's KL term alone, aggregated."""
    logprob, entropy = data["logprob"].clone().requires_grad_(), data["entropy"].clone().requires_grad_()
    loss = core_algos.agg_loss(core_algos.kl_penalty(logprob, data["reference_logprob"], estimator), data["mask"], mode)
    return gradients(loss, logprob, entropy)


def losses(data):
    """name -> (source, settings, outputs)."""
    trl, out = "trl GRPOTrainer._compute_loss", []
    for name, settings in {
        "grpo": dict(kind="grpo", low=0.2, high=0.2),
        "grpo_on_policy": dict(kind="grpo", low=0.2, high=0.2, on_policy=True),
        "grpo_kl": dict(kind="grpo", low=0.2, high=0.2, beta=0.04),
        "grpo_kl_entropy": dict(kind="grpo", low=0.2, high=0.2, beta=0.04, entropy_coef=0.01),
        "grpo_delta": dict(kind="grpo", low=0.2, high=0.2, delta=3.0),
        "grpo_sequence_ratio": dict(kind="grpo", low=0.05, high=0.1, level="sequence"),
        "grpo_sequence_ratio_on_policy": dict(kind="grpo", low=0.05, high=0.1, level="sequence", on_policy=True),
        "grpo_sequence_ratio_kl_entropy": dict(kind="grpo", low=0.05, high=0.1, level="sequence", beta=0.04, entropy_coef=0.01),
        "grpo_sequence_ratio_delta": dict(kind="grpo", low=0.05, high=0.1, level="sequence", delta=3.0),
        "dapo": dict(kind="dapo", low=0.2, high=0.28),
        "dapo_on_policy": dict(kind="dapo", low=0.2, high=0.28, on_policy=True),
        "dapo_kl": dict(kind="dapo", low=0.2, high=0.28, beta=0.1),
        "dapo_entropy": dict(kind="dapo", low=0.2, high=0.28, entropy_coef=0.02),
        "dapo_delta": dict(kind="dapo", low=0.2, high=0.28, delta=3.0),
        "bnpo": dict(kind="bnpo", low=0.2, high=0.2),
        "dr_grpo": dict(kind="dr_grpo", low=0.2, high=0.2),
        "dr_grpo_kl": dict(kind="dr_grpo", low=0.2, high=0.2, beta=0.04),
        "dr_grpo_delta_entropy": dict(kind="dr_grpo", low=0.2, high=0.28, delta=3.0, entropy_coef=0.02),
    }.items():
        out.append({"name": f"trl_{name}", "source": trl, "settings": settings} | trl_loss(data, **settings))
    vanilla, gspo = core_algos.compute_policy_loss_vanilla, core_algos.compute_policy_loss_gspo
    for name, settings in {
        "token_mean": dict(function=vanilla, mode="token-mean", low=0.2, high=0.28),
        "token_mean_dual": dict(function=vanilla, mode="token-mean", low=0.2, high=0.28, dual=3.0),
        "sequence_mean": dict(function=vanilla, mode="seq-mean-token-mean", low=0.2, high=0.2),
        "sequence_sum": dict(function=vanilla, mode="seq-mean-token-sum", low=0.2, high=0.2),
        "sequence_sum_norm": dict(function=vanilla, mode="seq-mean-token-sum-norm", low=0.2, high=0.2, scale=16),
        "sequence_sum_norm_dual": dict(function=vanilla, mode="seq-mean-token-sum-norm", low=0.2, high=0.28, dual=3.0, scale=16),
        "gspo": dict(function=gspo, mode="token-mean", low=0.05, high=0.1),
        "gspo_sequence_mean": dict(function=gspo, mode="seq-mean-token-mean", low=0.05, high=0.1),
    }.items():
        source = f"verl core_algos.{settings['function'].__name__}"
        shown = {k: v for k, v in settings.items() if k != "function"}
        out.append({"name": f"verl_{name}", "source": source, "settings": shown} | verl_loss(data, **settings))
    for estimator in ["k1", "k2", "k3"]:
        settings = {"estimator": estimator, "mode": "token-mean"}
        out.append({"name": f"verl_{estimator}", "source": "verl core_algos.kl_penalty + agg_loss", "settings": settings} | verl_kl(data, **settings))
    return out


def trl_advantages(rewards, group, scale):
    """TRL's own scoring of a batch: `rewards` [sequences], NaN = failed judgement; groups are consecutive."""
    count = len(rewards)
    generated = ([[1]] * count, [[1]] * count, None, [""] * count, None, {}, None, None)
    trainer = types.SimpleNamespace(
        _generate=lambda prompts: generated, _calculate_rewards=lambda *a: rewards[:, None].clone(),
        accelerator=types.SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=1, gather=lambda x: x),
        model=types.SimpleNamespace(training=True, is_gradient_checkpointing=False), _tokenizer=types.SimpleNamespace(pad_token_id=0), pad_to_multiple_of=None,
        args=types.SimpleNamespace(
            per_device_train_batch_size=count, gradient_accumulation_steps=1, steps_per_generation=1, gradient_checkpointing_kwargs=None
        ),
        environment_factories=None, environments=None, tools=None, mask_truncated_completions=False, use_vllm=False, beta=0.0,
        num_iterations=1, num_generations=group, scale_rewards=scale, multi_objective_aggregation="sum_then_normalize",
        reward_weights=torch.ones(1, dtype=torch.float64), reward_funcs=[None], reward_func_names=["judge"],
        _metrics=collections.defaultdict(lambda: collections.defaultdict(list)), _pending_extra_logs={}, _pending_metrics={},
        _logs={"prompt": [], "completion": [], "advantages": [], "rewards": {"judge": []}, "extra": {}},
    )
    return GRPOTrainer._generate_and_score_completions(trainer, [{"prompt": ""}] * count)["advantages"]


def verl_advantages(function, rewards, index, lengths, **settings):
    """One of verl's outcome estimators; the advantage of a sequence is the value at its first token."""
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).double()
    token_rewards = torch.zeros_like(mask)
    token_rewards[:, 0] = rewards
    return function(token_rewards, mask, numpy.array(index), **settings)[0][:, 0]


def advantages(generator):
    """PAR-like rewards in groups of four (one without variance), continuous ones in groups of unequal size, and failed judgements."""
    par = torch.tensor([1.2, 0.0, 1.4, 1.2, 0.0, -1.5, 0.0, 1.4, 1.2, 1.2, 1.2, 1.2, -1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    failed = par.clone()
    failed[[1, 4, 5, 8, 12, 13, 14]] = torch.nan  # groups with 3, 2, 3 and 1 valid judgements left
    unequal = torch.randn(12, generator=generator, dtype=torch.float64)
    fours, sizes = [i // 4 for i in range(16)], [0] * 2 + [1] * 3 + [2] * 7
    lengths = [1 + (5 * i) % 7 for i in range(16)]
    out = []

    def add(name, source, rewards, index, settings, value):
        shown = [None if r != r else r for r in rewards.tolist()]
        assert value.dtype == torch.float64
        out.append({"name": name, "source": source, "settings": settings, "rewards": shown, "groups": index, "lengths": lengths[: len(index)],
                    "advantages": value.tolist()})

    for scale in ["group", "none", "batch"]:
        for name, rewards in {"par": par, "failed": failed}.items():
            source = "trl GRPOTrainer._generate_and_score_completions"
            add(f"trl_{scale}_{name}", source, rewards, fours, {"scale_rewards": scale, "eps": 1e-4}, trl_advantages(rewards, 4, scale))
    for estimator, settings in [
        ("grpo", {"epsilon": 1e-6}), ("grpo", {"epsilon": 1e-4}), ("grpo", {"norm_adv_by_std_in_grpo": False}), ("rloo", {}), ("reinforce_plus_plus_baseline", {}),
    ]:
        function = getattr(core_algos, f"compute_{estimator}_outcome_advantage")
        for name, rewards, index in [("par", par, fours), ("unequal", unequal, sizes)]:
            value = verl_advantages(function, rewards, index, lengths[: len(index)], **settings)
            label = "_".join([estimator] + [str(v) for v in settings.values()])
            add(f"verl_{label}_{name}", f"verl core_algos.{function.__name__}", rewards, index, settings, value)
    return out


def head(generator):
    """Log-probability and entropy of given logits at two temperatures, and the gradient of the logits for random coefficients."""
    logits = 2.0 * torch.randn(7, 19, generator=generator, dtype=torch.float64)
    index = torch.randint(19, (7,), generator=generator)
    by_logprob, by_entropy = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    out = []
    for temperature in [1.0, 0.7]:
        leaf = logits.clone().requires_grad_()
        logprob, entropy = selective_log_softmax_and_entropy(leaf, index, temperature=temperature)
        (by_logprob * logprob + by_entropy * entropy).sum().backward()
        out.append({
            "source": "trl utils.selective_log_softmax_and_entropy", "temperature": temperature, "logits": logits.tolist(),
            "targets": index.tolist(), "d_logprob": by_logprob.tolist(), "d_entropy": by_entropy.tolist(),
            "logprob": logprob.tolist(), "entropy": entropy.tolist(), "d_logits": leaf.grad.tolist(),
        })
    return out


def main():
    torch.set_default_dtype(torch.float64)  # TRL's nanstd divides two counts: in the default dtype, whatever the rewards are in
    generator = torch.Generator().manual_seed(11)
    batches = []
    for name, masked_row in [("every_sequence_counts", False), ("one_sequence_is_masked", True)]:
        data = batch(generator, masked_row)
        batches.append({"name": name, "inputs": {k: v.tolist() for k, v in data.items()}, "losses": losses(data)})
    golden = {"batches": batches, "advantages": advantages(generator), "heads": head(generator)}
    path = cases.FOLDER / "losses.json"
    path.write_text(json.dumps(golden, allow_nan=False) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes, {sum(len(b['losses']) for b in batches)} losses, {len(golden['advantages'])} estimates")
    cases.record_versions("losses.py", ["torch", "trl", "verl", "numpy"])


if __name__ == "__main__":
    main()
