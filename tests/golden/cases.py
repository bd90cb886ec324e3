"""The small models and batches of the golden values, and how a golden file is written."""

import importlib.metadata
import json
import pathlib
import platform

import torch
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
LENGTHS = [1, 2, 31, 33, 37]  # unkind on purpose: one token, two, either side of 32, a prime


def config(**dims):
    """A Qwen3 config.json with the given dimensions; the rest as published."""
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0,
        "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False, "use_cache": True,
        "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float32",
    } | dims


def dims(c, f, v, layers, heads, kv_heads, head_dim, tied):
    """Dimension letters to the keys of config.json."""
    return dict(
        hidden_size=c, intermediate_size=f, vocab_size=v, num_hidden_layers=layers, max_window_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim, tie_word_embeddings=tied,
    )


CASES = {
    "tied_grouped": config(**dims(24, 37, 61, 2, 4, 2, 10, True)),
    "untied_full": config(**dims(31, 33, 97, 2, 3, 3, 16, False), rope_theta=10000),
    "untied_multiquery": config(**dims(40, 53, 67, 2, 5, 1, 8, False)),
    "tied_full": config(**dims(16, 29, 131, 1, 2, 2, 12, True), rms_norm_eps=1e-5),
}


def batch(vocabulary, generator):
    """Packed tokens, one target and one weight per token (every seventh weight is 0)."""
    count = sum(LENGTHS)
    weights = torch.randn(count, generator=generator)
    weights[::7] = 0.0
    return {
        "lengths": torch.tensor(LENGTHS, dtype=torch.int32),
        "tokens": torch.randint(vocabulary, (count,), generator=generator, dtype=torch.int32),
        "targets": torch.randint(vocabulary, (count,), generator=generator, dtype=torch.int32),
        "token_weights": weights,
    }


def transformers_model(settings, weights):
    """Qwen3ForCausalLM with these weights: float32, eager attention."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM._from_config(Qwen3Config(**settings), attn_implementation="eager", dtype=torch.float32)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    if settings["tie_word_embeddings"]:
        assert model.lm_head.weight is model.model.embed_tokens.weight
    else:
        assert not missing, missing
    return model.train()


def write(name, tensors, metadata):
    """One golden file: safetensors with JSON strings as metadata."""
    path = FOLDER / f"{name}.safetensors"
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, path, {k: json.dumps(v) for k, v in metadata.items()})
    print(f"{path.name}: {path.stat().st_size} bytes")


def record_versions(script, packages):
    """What made the values, kept beside them."""
    path = FOLDER / "versions.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[script] = {"python": platform.python_version(), "machine": platform.machine()}
    known[script] |= {p: importlib.metadata.version(p) for p in packages}
    path.write_text(json.dumps(dict(sorted(known.items())), indent=2) + "\n")
