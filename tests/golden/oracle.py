"""Qwen3, Qwen2 and Llama from their equations, in float64 throughout: the witness that the f64 body is held against.

transformers pins RMSNorm, RoPE's angles and softmax to float32, so `.double()` on its model is no float64 oracle. This one is
written from the equations alone; `qwen3.py` checks that both agree to float32 accuracy before anything is written.

Shapes: T tokens of one sequence, C hidden, H query heads, KVH key/value heads, D head dim, F feed-forward, V vocabulary.
"""

import math

import torch


def rms_norm(x, gain, eps):
    """x / sqrt(mean(x^2) + eps) * gain over the last dimension."""
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps) * gain


def rotate(x, theta):
    """RoPE, half-split: the pair (x[i], x[i + D/2]) at position t is turned by t * theta^(-2i/D). x is [T, heads, D]."""
    tokens, _, dim = x.shape
    half = dim // 2
    frequency = torch.tensor([theta ** (-2.0 * i / dim) for i in range(half)], dtype=x.dtype)
    angle = torch.arange(tokens, dtype=x.dtype)[:, None] * frequency[None, :]
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def attention(q, k, v):
    """Causal softmax attention; query head h reads key head h // (H / KVH). q [T, H, D], k and v [T, KVH, D] -> [T, H, D]."""
    tokens, heads, dim = q.shape
    group = heads // k.shape[1]
    allowed = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    out = []
    for h in range(heads):
        score = q[:, h] @ k[:, h // group].T / math.sqrt(dim)
        out.append(torch.softmax(score.masked_fill(~allowed, -math.inf), dim=-1) @ v[:, h // group])
    return torch.stack(out, dim=1)


def forward(weights, config, tokens):
    """Logits [T, V] of one sequence of token ids [T]."""
    heads, kv_heads, dim = config["num_attention_heads"], config["num_key_value_heads"], head_dim(config)
    eps, theta, count = config["rms_norm_eps"], config.get("rope_theta", 10000), len(tokens)
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        w = {name: weights[f"model.layers.{layer}.{name}"] for name in layer_shapes(config)}
        y = rms_norm(x, w["input_layernorm.weight"], eps)
        q, k, v = (y @ w[f"self_attn.{p}_proj.weight"].T for p in "qkv")
        if config["model_type"] == "qwen2":
            q, k, v = (x + w[f"self_attn.{p}_proj.bias"] for p, x in zip("qkv", (q, k, v)))
        q, k, v = q.view(count, heads, dim), k.view(count, kv_heads, dim), v.view(count, kv_heads, dim)
        if config["model_type"] == "qwen3":
            q, k = rms_norm(q, w["self_attn.q_norm.weight"], eps), rms_norm(k, w["self_attn.k_norm.weight"], eps)
        q, k = rotate(q, theta), rotate(k, theta)
        x = x + attention(q, k, v).reshape(count, heads * dim) @ w["self_attn.o_proj.weight"].T
        y = rms_norm(x, w["post_attention_layernorm.weight"], eps)
        gate, up = y @ w["mlp.gate_proj.weight"].T, y @ w["mlp.up_proj.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w["mlp.down_proj.weight"].T
    x = rms_norm(x, weights["model.norm.weight"], eps)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ weights[head].T


def head_dim(config):
    """D: hidden size by heads where the file does not say."""
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def layer_shapes(config):
    """Names and shapes of one layer's parameters, in the order of a Hugging Face file."""
    c, f, d = config["hidden_size"], config["intermediate_size"], head_dim(config)
    q, kv = config["num_attention_heads"] * d, config["num_key_value_heads"] * d
    of = {
        "input_layernorm.weight": (c,), "self_attn.q_proj.weight": (q, c), "self_attn.k_proj.weight": (kv, c),
        "self_attn.v_proj.weight": (kv, c),
    }
    if config["model_type"] == "qwen2":
        of |= {"self_attn.q_proj.bias": (q,), "self_attn.k_proj.bias": (kv,), "self_attn.v_proj.bias": (kv,)}
    if config["model_type"] == "qwen3":
        of |= {"self_attn.q_norm.weight": (d,), "self_attn.k_norm.weight": (d,)}
    return of | {
        "self_attn.o_proj.weight": (c, q), "post_attention_layernorm.weight": (c,), "mlp.gate_proj.weight": (f, c),
        "mlp.up_proj.weight": (f, c), "mlp.down_proj.weight": (c, f),
    }


def shapes(config):
    """Every parameter's name and shape, in the order of a Hugging Face file."""
    table = (config["vocab_size"], config["hidden_size"])
    out = {"model.embed_tokens.weight": table}
    for layer in range(config["num_hidden_layers"]):
        out |= {f"model.layers.{layer}.{name}": shape for name, shape in layer_shapes(config).items()}
    out["model.norm.weight"] = table[1:]
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = table
    return out


def random_weights(config, generator):
    """float32 weights whose every part matters: gains around 1, biases around 0, matrices of unit gain."""
    weights = {}
    for name, shape in shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith(".bias"):
            weights[name] = 0.3 * noise
        elif len(shape) == 1:
            weights[name] = 1.0 + 0.3 * noise
        elif name == "model.embed_tokens.weight":
            weights[name] = noise * (0.3 if config["tie_word_embeddings"] else 0.8)
        else:
            weights[name] = noise / math.sqrt(shape[1])
    return weights
