"""What the peers share: shapes, deterministic tokens, and the protocol by which a runner interleaves them with patarm.

A peer prepares itself, prints {"ready": ...}, then does one repeat for every line on stdin and answers with one JSON line. A runner
that holds several such processes can so run A B A B on a quiet machine, each side warm. End of input ends the peer.
"""

import json
import os
import resource
import sys
import time

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def config(layers):
    """The published Qwen3-0.6B shape (models/qwen3-0.6b) with `layers` layers."""
    path = os.path.join(os.path.dirname(__file__), "../../models/qwen3-0.6b/config.json")
    with open(path) as file:
        return Qwen3Config(**(json.load(file) | {"num_hidden_layers": layers, "max_window_layers": layers}))


def model(layers, folder, dtype):
    """Random weights of seed 1, or those of a Hugging Face folder; torch's own attention (sdpa)."""
    torch.manual_seed(1)
    if folder:
        return Qwen3ForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return Qwen3ForCausalLM._from_config(config(layers), attn_implementation="sdpa", dtype=dtype)


def tokens(rows, columns, vocabulary):
    """Token ids both sides can make: the i-th is (i * 2654435761 mod 2^32) mod V."""
    index = torch.arange(rows * columns, dtype=torch.int64)
    return ((index * 2654435761) % 2**32 % vocabulary).view(rows, columns)


def serve(facts, repeat):
    """Runs the protocol: `repeat()` does one measured piece of work and returns (seconds, tokens, facts of this repeat)."""
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({"ready": facts | versions}), flush=True)
    for number, _ in enumerate(sys.stdin):
        load = os.getloadavg()[0]
        seconds, count, more = repeat()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        line = {"repeat": number, "seconds": seconds, "tokens": count, "tokens_per_second": count / seconds, "peak_bytes": peak, "load": load}
        print(json.dumps(line | more), flush=True)


def clock():
    """Seconds of a clock that only rises."""
    return time.perf_counter()
