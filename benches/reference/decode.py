"""Peer: cached greedy decoding of transformers, the 28-layer Qwen3-0.6B shape.

    yes "" | head -n 5 | python benches/reference/decode.py --batch 16

Only the steps after the prompt are measured, without generate()'s own bookkeeping: one forward with the cache, arg max of the last
logits, nothing else. --static takes the static cache, --compile compiles the forward (with --static): transformers' own advice.
"""

import argparse

import torch
from transformers import DynamicCache, StaticCache

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=peer.DTYPES, default="f32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=16, help="tokens drawn for each row in one repeat")
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="Hugging Face folder to start from instead of random weights")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = peer.model(arguments.layers, arguments.model, peer.DTYPES[arguments.dtype]).eval()
    forward = torch.compile(model.forward) if arguments.compile else model.forward
    prompt = peer.tokens(arguments.batch, arguments.prompt, model.config.vocab_size)

    @torch.no_grad()
    def decode():
        longest = arguments.prompt + arguments.steps + 1
        cache = StaticCache(config=model.config, max_cache_len=longest) if arguments.static else DynamicCache(config=model.config)
        logits = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        drawn = [logits[:, -1].argmax(dim=-1, keepdim=True)]
        start = peer.clock()
        for i in range(arguments.steps):
            position = torch.full((arguments.batch, 1), arguments.prompt + i)
            logits = forward(drawn[-1], position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            drawn.append(logits[:, -1].argmax(dim=-1, keepdim=True))
        seconds = peer.clock() - start
        return seconds, arguments.batch * arguments.steps, {"first_row": torch.cat(drawn, dim=1)[0].tolist()}

    decode()
    peer.serve({"peer": "transformers", "what": "decode"} | vars(arguments), decode)


if __name__ == "__main__":
    main()
