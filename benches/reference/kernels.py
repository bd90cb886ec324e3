"""Peer: single operators by PyTorch and its neighbours, on the shapes that `patarm bench kernels` names.

    patarm bench kernels --device cuda --filter attention_forward --peer "python benches/reference/kernels.py --by cudnn"

Each line on its standard input is the name of a case, such as `attention_forward/causal T=4096 H=32 KVH=8 D=128`; the answer is
{"seconds": ...} of one repeat, on the device's own clock and with nothing in its cache, or {"absent": "why"}. Before a case's first
repeat the same code runs on a smaller shape and is held against float32: "error" is |a - b| / |b|, and more than 2^-6 is refused.
Random operands of bf16, gradients of weights in bf16 as well: that is what these libraries give.
"""

import argparse
import functools
import json
import sys
import time

import torch
import torch.nn.functional as F

WORST = 2**-6
SWEEP = 512 << 20
# What each does; nothing is done by another in its name.
SERVES = {
    "cudnn": ("attention_forward", "attention_backward"),
    "flash": ("attention_forward", "attention_backward"),
    "math": ("attention_forward", "attention_backward"),
    "torch": ("product_forward", "product_backward_input", "product_backward_weight", "adamw_step", "head_token_logprob", "head_gradient"),
    "compiled": ("rms_norm_forward", "rms_norm_backward", "swiglu_forward", "swiglu_backward"),
    "products": ("head_gradient",),
    "liger": ("head_gradient",),
    "trl": ("head_token_logprob",),
}
# Sides of the shape that is checked, where the case's are larger.
SMALL = {"T": 512, "N": 96, "M": 64, "V": 4096, "F": 768, "parameters": 1 << 16}


def parse(name):
    """`op/what/A=1 B=2` -> op, what, {A: 1, B: 2}."""
    op, *rest = name.split("/")
    words = " ".join(rest).split()
    sides = {key: int(value) for key, _, value in (word.partition("=") for word in words) if value.isdigit()}
    return op, [word for word in words if "=" not in word], sides


def numbers(device, *shape, dtype=torch.bfloat16):
    return (torch.rand(shape, device=device) * 2 - 1).to(dtype)


def leaf(device, *shape):
    return numbers(device, *shape).requires_grad_()


def exact(function, inputs, dout=None):
    """The function in float32; with `dout` its gradients."""
    wide = [x.detach().float().requires_grad_(dout is not None) for x in inputs]
    y = function(*wide)
    return [y] if dout is None else list(torch.autograd.grad(y, wide, dout.float()))


def both(function, plain, inputs, dout):
    """Work of a function or of its backward pass, and what float32 gives. The forward pass before a backward one is not timed."""
    if dout is None:
        inputs = [x.detach() for x in inputs]
        return lambda: [function(*inputs)], lambda: exact(plain, inputs)
    y = function(*inputs)
    return lambda: list(torch.autograd.grad(y, inputs, dout, retain_graph=True)), lambda: exact(plain, inputs, dout)


def attention(backend, device, backward, s):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    kind = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION, "math": SDPBackend.MATH}[backend]
    # [tokens, heads, D] in memory, as patarm has them.
    q, k, v = (leaf(device, 1, s["T"], heads, s["D"]) for heads in (s["H"], s["KVH"], s["KVH"]))

    def run(q, k, v, *backends):
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        with sdpa_kernel(list(backends)):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)

    dout = numbers(device, *q.shape) if backward else None
    return both(lambda *x: run(*x, kind), lambda *x: run(*x, SDPBackend.MATH), [q, k, v], dout)


def product(op, device, s):
    n, m, k = s["M"], s["N"], s["K"]
    x, w, dy = numbers(device, n, k), numbers(device, m, k), numbers(device, n, m)
    work = {
        "product_forward": lambda x, w, dy: F.linear(x, w),
        "product_backward_input": lambda x, w, dy: dy @ w,
        "product_backward_weight": lambda x, w, dy: dy.T @ x,
    }[op]
    return lambda: [work(x, w, dy)], lambda: [work(x.float(), w.float(), dy.float())]


@functools.cache
def compiled(function):
    return torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)


def rms_norm(x, gain):
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6) * gain.float()).to(x.dtype)


def swiglu(gate, up):
    return (F.silu(gate.float()) * up.float()).to(gate.dtype)


def elementwise(op, device, s):
    backward = op.endswith("backward")
    if op.startswith("rms_norm"):
        function, inputs = rms_norm, [leaf(device, s["N"], s["C"]), leaf(device, s["C"])]
    else:
        function, inputs = swiglu, [leaf(device, s["N"], s["F"]), leaf(device, s["N"], s["F"])]
    return both(compiled(function), function, inputs, numbers(device, *inputs[0].shape) if backward else None)


def adamw(what, device, s):
    """With a float32 master copy beside ours: all of float32. Without: all of bf16, which moves less than ours does."""
    dtype = torch.float32 if "master" in what else torch.bfloat16
    w = numbers(device, s["parameters"], dtype=dtype)
    w.grad = numbers(device, s["parameters"], dtype=dtype)
    settings = {"lr": 1e-1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    start, optimizer = w.clone(), torch.optim.AdamW([w], fused=True, **settings)

    def reference():
        # The first step, whose moments are the gradient's own: every weight moves by lr.
        g = w.grad.float()
        return [start.float() * (1 - settings["lr"] * settings["weight_decay"]) - settings["lr"] * g / (g.abs() + settings["eps"])]

    def step():
        optimizer.step()
        return [w]

    return step, reference


def logprob(x, w, targets):
    """ln p and entropy, a tile of logits at a time."""
    rows = []
    for x, targets in zip(x.split(2048), targets.split(2048)):
        logits = F.linear(x, w).float()
        lse = logits.logsumexp(-1)
        entropy = lse - (torch.softmax(logits, -1) * logits).sum(-1)
        rows.append(torch.stack([logits.gather(-1, targets[:, None])[:, 0] - lse, entropy]))
    return torch.cat(rows, 1)


def head(by, op, device, s):
    n, c, v = s["N"], s["C"], s["V"]
    x, w = leaf(device, n, c), leaf(device, v, c)
    w.data.mul_(c**-0.5)
    targets = torch.arange(n, device=device) * 2654435761 % 2**32 % v
    if op == "head_token_logprob":
        if by == "trl":
            from trl.trainer.utils import selective_log_softmax

            with torch.no_grad():
                wide = logprob(x.detach().float(), w.detach().float(), targets)[:1]
            return lambda: no_grad(lambda: [selective_log_softmax(F.linear(x, w), targets)[None]]), lambda: [wide]
        return lambda: no_grad(lambda: [logprob(x, w, targets)]), lambda: no_grad(lambda: [logprob(x.float(), w.float(), targets)])
    if by == "products":
        return bare_products(x.detach(), w.detach())
    mean = lambda x, w: F.cross_entropy(F.linear(x, w).float(), targets)
    if by == "liger":
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy as fused

        work = lambda: list(torch.autograd.grad(fused(x, w, targets), [x, w]))
    else:
        work = lambda: list(torch.autograd.grad(mean(x, w), [x, w]))
    return work, lambda: exact(mean, [x, w], torch.ones((), device=device))


def bare_products(x, w):
    """What any head must multiply: logits, dx and dw, a tile of logits at a time, with nothing between the products."""
    def work(x, w):
        dx, dw = torch.empty_like(x), torch.zeros_like(w)
        for rows in torch.arange(len(x), device="cpu").split(2048):
            tile = slice(int(rows[0]), int(rows[-1]) + 1)
            logits = F.linear(x[tile], w)
            torch.matmul(logits, w, out=dx[tile])
            dw.addmm_(logits.T, x[tile])
        return [dx, dw]

    return lambda: work(x, w), lambda: work(x.float(), w.float())


def no_grad(work):
    with torch.no_grad():
        return work()


def build(by, name, device, largest=None):
    """The case's work and its float32 reference; sides no larger than `largest` says."""
    op, what, sides = parse(name)
    sides = {key: min(side, (largest or {}).get(key, side)) for key, side in sides.items()}
    if op not in SERVES[by]:
        raise NotImplementedError(f"{by} has nothing for {op}")
    if op.startswith("attention"):
        return attention(by, device, op.endswith("backward"), sides)
    if op.startswith("product"):
        return product(op, device, sides)
    if op.startswith("head"):
        return head(by, op, device, sides)
    return adamw(what, device, sides) if op == "adamw_step" else elementwise(op, device, sides)


def error_of(work, reference):
    got = [x.detach().float() for x in work()]
    want = reference()
    return max(float((a - b).norm() / b.norm()) for a, b in zip(got, want, strict=True))


class Clock:
    """Seconds of one call on the device, after its cache was filled with something else."""

    def __init__(self, device):
        self.cuda = device == "cuda"
        self.sweep = torch.empty(SWEEP if self.cuda else 1 << 20, dtype=torch.uint8, device=device)

    def seconds(self, work):
        if not self.cuda:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.sweep.zero_()
        begin.record()
        work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


class Peer:
    def __init__(self, by, device, warm_up):
        self.by, self.device, self.warm_up, self.clock = by, device, warm_up, Clock(device)
        self.name, self.work, self.facts = None, None, {}

    def prepare(self, name):
        """Holds the case against float32 on a small shape, then makes and warms it. Its operands replace the last case's."""
        self.name, self.work, self.facts = name, None, {}
        if self.device == "cuda":
            torch.cuda.empty_cache()
        torch.manual_seed(1)
        error = error_of(*build(self.by, name, self.device, SMALL))
        if not error <= WORST:
            raise ArithmeticError(f"|a - b| / |b| of the checked shape is {error}")
        self.work, self.facts = build(self.by, name, self.device)[0], {"error": error}
        for _ in range(self.warm_up):
            self.work()

    def answer(self, name):
        try:
            if name != self.name:
                self.prepare(name)
            if self.work is None:
                return {"absent": "it was refused before"}
            return {"seconds": self.clock.seconds(self.work)} | self.facts
        except Exception as error:  # Whatever a library says, the other cases go on.
            self.work = None
            return {"absent": f"{type(error).__name__}: {error}"[:500]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", default="torch", choices=SERVES)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--warm-up", type=int, default=3)
    arguments = parser.parse_args()
    peer = Peer(arguments.by, arguments.device, arguments.warm_up)
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    print(json.dumps({"ready": {"peer": arguments.by, "what": "kernels"} | versions}), flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(line.strip())), flush=True)


if __name__ == "__main__":
    main()
