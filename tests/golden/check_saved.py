"""Loads a folder that patarm saved with transformers and compares its log-probabilities with patarm's.

    patarm logprobs --model DIR --in rows.jsonl --dtype f32 > ours.jsonl      # rows: {"tokens": [...]}
    python tests/golden/check_saved.py DIR ours.jsonl

Prints one JSON line; exits 1 where any token's log-probability differs by more than 1e-4 of the largest one.
"""

import argparse
import importlib.metadata
import json
import sys

import torch
from transformers import AutoModelForCausalLM


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a Hugging Face folder")
    parser.add_argument("logprobs", help="output of `patarm logprobs`: rows with tokens and logprobs")
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, attn_implementation="eager").eval()
    apart, largest, count = 0.0, 0.0, 0
    for line in open(arguments.logprobs):
        row = json.loads(line)
        tokens = torch.tensor(row["tokens"])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(tokens[None]).logits[0].double(), dim=-1)
        assert row["logprobs"][0] is None, "the first token has no log-probability"
        if len(tokens) == 1:
            continue
        theirs = logprobs[:-1].gather(1, tokens[1:, None])[:, 0]
        ours = torch.tensor(row["logprobs"][1:], dtype=torch.float64)
        apart = max(apart, (ours - theirs).abs().max().item())
        largest = max(largest, theirs.abs().max().item())
        count += len(theirs)
    assert count > 0, "no tokens to compare"
    print(json.dumps({"tokens": count, "largest_difference": apart, "largest_logprob": largest,
                      "transformers": importlib.metadata.version("transformers")}))
    sys.exit(not apart <= 1e-4 * largest)


if __name__ == "__main__":
    main()
