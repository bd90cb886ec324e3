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


def qwen2(**dims):
    """A Qwen2 config.json: biases on queries, keys and values; no head_dim, which is hidden size by heads."""
    return {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "hidden_act": "silu",
        "initializer_range": 0.02, "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "sliding_window": None, "use_sliding_window": False, "use_cache": True, "bos_token_id": 0, "eos_token_id": 1,
        "torch_dtype": "float32",
    } | dims


def llama(**dims):
    """A Llama config.json without what older ones leave out: head_dim, rope_theta (10000)."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0,
        "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 128, "mlp_bias": False, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_scaling": None, "use_cache": True, "bos_token_id": 0, "eos_token_id": 1,
        "torch_dtype": "float32",
    } | dims


def dims(c, f, v, layers, heads, kv_heads, head_dim, tied):
    """Dimension letters to the keys of config.json."""
    return dict(
        hidden_size=c, intermediate_size=f, vocab_size=v, num_hidden_layers=layers, max_window_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
    ) | ({} if head_dim is None else {"head_dim": head_dim})


CASES = {
    "qwen3_tied_grouped": config(**dims(24, 37, 61, 2, 4, 2, 10, True)),
    "qwen3_untied_full": config(**dims(31, 33, 97, 2, 3, 3, 16, False), rope_theta=10000),
    "qwen3_untied_multiquery": config(**dims(40, 53, 67, 2, 5, 1, 8, False)),
    "qwen3_tied_full": config(**dims(16, 29, 131, 1, 2, 2, 12, True), rms_norm_eps=1e-5),
    "qwen2_tied_grouped": qwen2(**dims(24, 31, 53, 2, 4, 2, None, True)),
    "qwen2_untied_full": qwen2(**dims(20, 33, 41, 1, 2, 2, None, False), rope_theta=10000),
    "llama_tied_grouped": llama(**dims(36, 37, 59, 2, 6, 3, None, True)),
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
    """The model of `architectures` with these weights: float32, eager attention."""
    import transformers

    (name,) = settings["architectures"]
    causal = getattr(transformers, name)
    model = causal._from_config(causal.config_class(**settings), attn_implementation="eager", dtype=torch.float32)
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
