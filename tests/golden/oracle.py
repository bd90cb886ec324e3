"""Qwen3 from its equations, in float64 throughout: the witness that the f64 body is held against.

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
    heads, kv_heads, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    eps, theta, count = config["rms_norm_eps"], config["rope_theta"], len(tokens)
    x = weights["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        w = {name: weights[f"model.layers.{layer}.{name}.weight"] for name in LAYER}
        y = rms_norm(x, w["input_layernorm"], eps)
        q = (y @ w["self_attn.q_proj"].T).view(count, heads, dim)
        k = (y @ w["self_attn.k_proj"].T).view(count, kv_heads, dim)
        v = (y @ w["self_attn.v_proj"].T).view(count, kv_heads, dim)
        q = rotate(rms_norm(q, w["self_attn.q_norm"], eps), theta)
        k = rotate(rms_norm(k, w["self_attn.k_norm"], eps), theta)
        x = x + attention(q, k, v).reshape(count, heads * dim) @ w["self_attn.o_proj"].T
        y = rms_norm(x, w["post_attention_layernorm"], eps)
        gate, up = y @ w["mlp.gate_proj"].T, y @ w["mlp.up_proj"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ w["mlp.down_proj"].T
    x = rms_norm(x, weights["model.norm.weight"], eps)
    head = "model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"
    return x @ weights[head].T


LAYER = [
    "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_norm", "self_attn.k_norm",
    "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
]


def shapes(config):
    """Every parameter's name and shape, in the order of a Hugging Face file."""
    c, f, v, d = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size", "head_dim"))
    q, kv = config["num_attention_heads"] * d, config["num_key_value_heads"] * d
    of = {
        "input_layernorm": (c,), "self_attn.q_proj": (q, c), "self_attn.k_proj": (kv, c), "self_attn.v_proj": (kv, c),
        "self_attn.q_norm": (d,), "self_attn.k_norm": (d,), "self_attn.o_proj": (c, q), "post_attention_layernorm": (c,),
        "mlp.gate_proj": (f, c), "mlp.up_proj": (f, c), "mlp.down_proj": (c, f),
    }
    out = {"model.embed_tokens.weight": (v, c)}
    for layer in range(config["num_hidden_layers"]):
        out |= {f"model.layers.{layer}.{name}.weight": of[name] for name in LAYER}
    out["model.norm.weight"] = (c,)
    if not config["tie_word_embeddings"]:
        out["lm_head.weight"] = (v, c)
    return out


def random_weights(config, generator):
    """float32 weights whose every part matters: gains around 1, matrices of unit gain."""
    weights = {}
    for name, shape in shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            weights[name] = 1.0 + 0.3 * noise
        elif name == "model.embed_tokens.weight":
            weights[name] = noise * (0.3 if config["tie_word_embeddings"] else 0.8)
        else:
            weights[name] = noise / math.sqrt(shape[1])
    return weights
