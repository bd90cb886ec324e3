"""Low-rank adapters: logits and the gradients of both factors by peft (f32) and by the equations (f64), twenty AdamW steps of
both, and peft's own folders.

    python tests/golden/lora.py                                    # writes lora_*.safetensors and saved_by_peft/
    python tests/golden/lora.py check BASE ADAPTER ours.jsonl      # ours.jsonl: output of `patarm logprobs --adapter ADAPTER`

Base weights and batches are those of the golden files of the same models; both factors are random, so that neither gradient is 0.
`check` loads a folder that patarm wrote with peft, compares log-probabilities token by token, prints one JSON line, and exits 1
where one differs by more than 1e-4 of the largest.
"""

import json
import shutil
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file

import cases
import oracle
import qwen3
import sft

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {"qwen3_tied_grouped": (3, 5, ALL), "qwen2_untied_full": (4, 8, ["q_proj", "v_proj", "down_proj"])}


def golden(name):
    """Settings, weights and batch of a model's golden file."""
    path = cases.FOLDER / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        settings = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    weights = {k.removeprefix("weight."): v for k, v in tensors.items() if k.startswith("weight.")}
    return settings, weights, {k: tensors[k] for k in ["lengths", "tokens", "targets", "token_weights"]}


def adapted(settings, weights, lora):
    """peft's model with random factors, and these under the names of peft's files."""
    rank, alpha, targets = lora
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM", base_model_name_or_path="base")
    model = get_peft_model(cases.transformers_model(settings, weights), config)
    model.peft_config["default"].base_model_name_or_path = "base"
    learns = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name for name in learns), learns.keys()
    with torch.no_grad():
        for p in learns.values():
            p.copy_(torch.randn(p.shape) / p.shape[1] ** 0.5)
    return learns, model


def by_peft(settings, weights, batch, lora):
    """float32; gradients under the names of peft's files. Also the model itself."""
    learns, model = adapted(settings, weights, lora)
    return qwen3.run(lambda t: model(t[None]).logits[0], learns, batch, torch.float32), learns, model


def by_equations(settings, weights, batch, lora, factors):
    """float64: w + alpha / rank B A in the place of every target's w."""
    factors = {name: p.detach().double().requires_grad_() for name, p in factors.items()}
    full = effective(weights, lora, factors)
    return qwen3.run(lambda t: oracle.forward(full, settings, t), factors, batch, torch.float64)


def effective(weights, lora, factors):
    """float64 weights with what the factors add."""
    rank, alpha, _ = lora
    full = {name: w.double() for name, w in weights.items()}
    for name in factors:
        if "lora_A" in name:
            matrix = name.removeprefix("base_model.model.").replace(".lora_A", "")
            full[matrix] = full[matrix] + alpha / rank * factors[name.replace("lora_A", "lora_B")] @ factors[name]
    return full


def write_steps():
    """The steps of sft.py with an adapter in the place of the weights; every factor is a matrix and decays."""
    lora = (4, 6, ALL)
    tensors = load_file(cases.FOLDER / "sft.safetensors")
    weights = {k.removeprefix("weight."): v for k, v in tensors.items() if k.startswith("weight.")}
    rows, data = tensors["rows"].tolist(), tensors["tokens"]
    learns, model = adapted(sft.SETTINGS, weights, lora)
    start = {name: p.detach().clone() for name, p in learns.items()}
    exact = {name: p.double().requires_grad_() for name, p in start.items()}
    losses64, norms64 = sft.train(lambda t: oracle.forward(effective(weights, lora, exact), sft.SETTINGS, t), exact, rows, data)
    losses32, _ = sft.train(lambda t: model(t[None]).logits[0], learns, rows, data)
    print("losses", [round(x, 4) for x in losses64.tolist()], "\nnorms", [round(x, 3) for x in norms64.tolist()])
    apart = ((losses32.double() - losses64) / losses64).abs().max().item()
    print(f"f32 and f64 losses differ by at most {apart:.1e} of the loss")
    assert apart < 1e-5
    assert norms64.min() < sft.OPTIMIZER["max_grad_norm"] < norms64.max(), "clipping should act in some steps and not in others"
    out = {"f64.losses": losses64, "f64.norms": norms64, "f32.losses": losses32}
    out |= {f"start.{k}": v for k, v in start.items()} | {f"f64.final.{k}": v for k, v in exact.items()}
    cases.write("lora_sft", out, {"references_differ_by": apart})


def write():
    shutil.rmtree(cases.FOLDER / "saved_by_peft", ignore_errors=True)
    for name, lora in CASES.items():
        settings, weights, batch = golden(name)
        f32, learns, model = by_peft(settings, weights, batch, lora)
        f64 = by_equations(settings, weights, batch, lora, learns)
        apart = qwen3.difference(f32, f64)
        worst = max(apart, key=apart.get)
        print(f"{name}: peft and equations differ by at most {apart[worst]:.1e} ({worst})")
        assert apart[worst] < 1e-5, "the two references disagree: nothing is written"
        folder = cases.FOLDER / "saved_by_peft" / name
        model.save_pretrained(folder)
        (folder / "README.md").unlink()
        for file in folder.iterdir():
            file.chmod(0o644)
        merged = model.merge_and_unload().state_dict()
        tensors = {f"f32.{k}": v for k, v in f32.items()} | {f"f64.{k}": v for k, v in f64.items()}
        tensors |= {f"merged.{k}": v for k, v in merged.items() if k in weights and not torch.equal(v, weights[k])}
        rank, alpha, targets = lora
        settings = {"rank": rank, "alpha": alpha, "targets": targets}
        cases.write(f"lora_{name}", tensors, {"lora": settings, "references_differ_by": apart[worst]})
    write_steps()
    cases.record_versions("lora.py", ["torch", "transformers", "peft", "safetensors"])


def check(base, adapter, ours):
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, adapter).eval()
    apart, alone, largest, count = 0.0, 0.0, 0.0, 0
    for line in open(ours):
        row = json.loads(line)
        tokens = torch.tensor(row["tokens"])
        if len(tokens) == 1:
            continue
        said = torch.tensor(row["logprobs"][1:], dtype=torch.float64)

        def difference():
            with torch.no_grad():
                logprobs = torch.log_softmax(model(tokens[None]).logits[0].double(), dim=-1)
            theirs = logprobs[:-1].gather(1, tokens[1:, None])[:, 0]
            return (said - theirs).abs().max().item(), theirs.abs().max().item()

        row_apart, row_largest = difference()
        with model.disable_adapter():
            alone = max(alone, difference()[0])
        apart, largest, count = max(apart, row_apart), max(largest, row_largest), count + len(said)
    assert count > 0, "no tokens to compare"
    print(json.dumps({"tokens": count, "largest_difference": apart, "largest_logprob": largest, "without_adapter": alone}))
    sys.exit(not apart <= 1e-4 * largest)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else write()
