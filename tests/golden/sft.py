"""Twenty AdamW steps of supervised fine-tuning, by torch on the float64 equations and by transformers in float32.

    python tests/golden/sft.py

Loss of a step: the mean negative log-probability of the completion tokens of its packed batch (prompt tokens weigh 0). torch's own
AdamW and clip_grad_norm_ are used (its clip divides by norm + 1e-6). As in transformers' Trainer, gains do not decay.
"""

import torch

import cases
import oracle

STEPS = 20
SETTINGS = cases.config(**cases.dims(16, 23, 53, 2, 3, 1, 6, True))
OPTIMIZER = {"lr": 0.01, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 2.3}


def batches(generator):
    """STEPS packed batches of (length, prompt length) rows: the last tokens of each row are its completion."""
    rows = [(5, 2), (17, 4), (8, 7), (2, 1)]
    out = []
    for _ in range(STEPS):
        start = torch.randint(SETTINGS["vocab_size"], (len(rows),), generator=generator)
        stride = torch.randint(1, 4, (len(rows),), generator=generator)
        # An arithmetic walk through the vocabulary: something that twenty steps can begin to learn.
        tokens = [(s + d * torch.arange(n)) % SETTINGS["vocab_size"] for s, d, (n, _) in zip(start, stride, rows)]
        out.append(torch.cat(tokens).int())
    return rows, torch.stack(out)


def loss_of(forward, rows, tokens):
    """Mean over the completion tokens; the token at position t is predicted from those before it."""
    total, count = 0.0, 0
    for sequence, (_, prompt) in zip(tokens.long().split([n for n, _ in rows]), rows):
        logprobs = torch.log_softmax(forward(sequence)[:-1], dim=-1).gather(1, sequence[1:, None])[:, 0]
        total, count = total - logprobs[prompt - 1 :].sum(), count + len(sequence) - prompt
    return total / count


def train(forward, parameters, rows, data):
    """Losses and gradient norms before clipping of every step; the parameters end as trained."""
    groups = [
        {"params": [p for p in parameters.values() if p.dim() > 1], "weight_decay": OPTIMIZER["weight_decay"]},
        {"params": [p for p in parameters.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=OPTIMIZER["lr"], betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"], foreach=False)
    losses, norms = [], []
    for tokens in data:
        adamw.zero_grad()
        loss = loss_of(forward, rows, tokens)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters.values(), OPTIMIZER["max_grad_norm"], foreach=False).detach())
        adamw.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms)


def main():
    generator = torch.Generator().manual_seed(7)
    weights = oracle.random_weights(SETTINGS, generator)
    rows, data = batches(generator)
    exact = {name: w.double().requires_grad_() for name, w in weights.items()}
    losses64, norms64 = train(lambda t: oracle.forward(exact, SETTINGS, t), exact, rows, data)
    model = cases.transformers_model(SETTINGS, {k: v.clone() for k, v in weights.items()})
    losses32, norms32 = train(lambda t: model(t[None]).logits[0], dict(model.named_parameters()), rows, data)
    print("losses", [round(x, 4) for x in losses64.tolist()], "\nnorms", [round(x, 3) for x in norms64.tolist()])
    apart = ((losses32.double() - losses64) / losses64).abs().max().item()
    print(f"f32 and f64 losses differ by at most {apart:.1e} of the loss")
    assert apart < 1e-5
    assert norms64.min() < OPTIMIZER["max_grad_norm"] < norms64.max(), "clipping should act in some steps and not in others"
    tensors = {"tokens": data, "rows": torch.tensor(rows, dtype=torch.int32), "f64.losses": losses64, "f32.losses": losses32}
    tensors |= {"f64.norms": norms64, "f32.norms": norms32} | {f"weight.{k}": v for k, v in weights.items()}
    tensors |= {f"f64.final.{k}": v for k, v in exact.items()}
    tensors |= {f"f32.final.{k}": v for k, v in model.named_parameters()}
    cases.write("sft", tensors, {"config": SETTINGS, "optimizer": OPTIMIZER, "references_differ_by": apart})
    cases.record_versions("sft.py", ["torch", "transformers", "safetensors", "numpy"])


if __name__ == "__main__":
    main()
