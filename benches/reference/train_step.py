"""Peer: one optimizer step of PyTorch and transformers, 4 x 512 tokens through 4 layers of the Qwen3-0.6B shape.

    yes "" | head -n 5 | python benches/reference/train_step.py --dtype f32 --compile

f32: weights, activations and AdamW in float32. bf16: torch's documented mixed precision (autocast over float32 weights), or with
--pure weights and moments in bfloat16 as well. AdamW is torch's fused one; the loss is the mean over all next tokens.
"""

import argparse

import torch

import peer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=peer.DTYPES, default="f32")
    parser.add_argument("--pure", action="store_true", help="with bf16: weights and moments in bfloat16, no autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", help="Hugging Face folder to start from instead of random weights")
    parser.add_argument("--warm-up", type=int, default=1, help="steps before the first measured one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    mixed = arguments.dtype == "bf16" and not arguments.pure
    model = peer.model(arguments.layers, arguments.model, torch.float32 if mixed else peer.DTYPES[arguments.dtype]).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    forward = torch.compile(model) if arguments.compile else model
    ids = peer.tokens(arguments.rows, arguments.columns, model.config.vocab_size)

    def step():
        start = peer.clock()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            logits = forward(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        del logits
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return peer.clock() - start, ids.numel(), {"loss": loss.item()}

    first = step()[2]["loss"]
    for _ in range(arguments.warm_up - 1):
        step()
    peer.serve({"peer": "torch", "what": "train_step", "first_loss": first} | vars(arguments), step)


if __name__ == "__main__":
    main()
