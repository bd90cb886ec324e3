"""Logits and every parameter gradient of random small models, by transformers (f32) and by the equations (f64).

    python tests/golden/qwen3.py [NAME ...]      # of cases.py; all without

Each sequence is computed alone, so that the packed forward under test has something independent to agree with. The loss is
sum_t w_t * logprob(target_t). Every file holds config, weights, inputs and outputs: a test needs nothing else.
"""

import sys

import torch

import cases
import oracle


def run(forward, parameters, batch, dtype):
    """Logits of all sequences, per-token log-probability, and the gradient of the weighted sum."""
    logits = torch.cat([forward(t.long()) for t in batch["tokens"].split(batch["lengths"].tolist())])
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(1, batch["targets"].long()[:, None])[:, 0]
    loss = (batch["token_weights"].to(dtype) * chosen).sum()
    loss.backward()
    return {
        "logits": logits, "logprob": chosen, "lse": torch.logsumexp(logits, dim=-1), "loss": loss,
        "entropy": -(logprobs.exp() * logprobs).sum(dim=-1),
    } | {f"grad.{name}": p.grad for name, p in parameters.items()}


def by_transformers(settings, weights, batch):
    """float32, eager attention; the tied head is one parameter with the embedding."""
    model = cases.transformers_model(settings, weights)
    return run(lambda t: model(t[None]).logits[0], dict(model.named_parameters()), batch, torch.float32)


def by_equations(settings, weights, batch):
    """float64 throughout."""
    parameters = {name: w.double().requires_grad_() for name, w in weights.items()}
    return run(lambda t: oracle.forward(parameters, settings, t), parameters, batch, torch.float64)


def difference(small, large):
    """Per tensor: the largest difference as a share of the largest reference value."""
    assert small.keys() == large.keys(), small.keys() ^ large.keys()
    return {k: ((small[k].double() - large[k]).abs().max() / large[k].abs().max()).item() for k in large}


def main():
    for seed, (name, settings) in enumerate(cases.CASES.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        generator = torch.Generator().manual_seed(100 + seed)
        weights = oracle.random_weights(settings, generator)
        batch = cases.batch(settings["vocab_size"], generator)
        f32, f64 = by_transformers(settings, weights, batch), by_equations(settings, weights, batch)
        apart = difference(f32, f64)
        worst = max(apart, key=apart.get)
        print(f"{name}: transformers and equations differ by at most {apart[worst]:.1e} ({worst})")
        assert apart[worst] < 1e-5, "the two references disagree: nothing is written"
        tensors = dict(batch) | {f"weight.{k}": v for k, v in weights.items()}
        tensors |= {f"f32.{k}": v for k, v in f32.items()} | {f"f64.{k}": v for k, v in f64.items()}
        cases.write(name, tensors, {"config": settings, "references_differ_by": apart[worst]})
    cases.record_versions("qwen3.py", ["torch", "transformers", "safetensors", "numpy"])


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
