"""The steps of gpu_suite.sh: what runs, for how long at most, and the record that they leave.

A step is a command, or the tests of a binary, each in a process of its own: a kernel that stops leaves its process without a
device, and one that hangs costs its own time alone.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

# Where `pack` puts binaries; elsewhere only while these steps themselves are tried out.
PACKED = os.environ.get("PATARM_PACKED", "target/gpu")
PATARM = f"{PACKED}/patarm"
# Seconds: of a whole call, and what is left of it when no further step begins.
WHOLE, TOO_LITTLE = 465, 8
# Tests of one step that run at once, and the longest that one may take.
AT_ONCE, TEST_LIMIT = 6, 60


def run(command, limit, more=None):
    """Exit status (124: out of time), standard output, and both outputs as they came."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.monotonic()
        try:
            process = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=os.environ | (more or {}), start_new_session=True)
        except OSError as error:
            return {"exit": 127, "seconds": 0.0, "out": "", "said": str(error)}
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = 124
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass  # The driver holds it; the other steps need not wait.
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return {"exit": code, "seconds": round(time.monotonic() - begin, 2), "out": texts[0], "said": texts[0] + texts[1]}


def last(text, most=4000):
    return text[-most:]


class Command:
    """One command; with `keeps`, the JSON that it prints is part of the record."""

    def __init__(self, name, limit, *command, keeps=False, needs=None, env=None):
        self.name, self.limit, self.command, self.keeps, self.needs, self.env = name, limit, list(command), keeps, needs, env

    def result(self, limit):
        if self.needs and not shutil.which(self.needs):
            return {"exit": None, "not_run": f"there is no {self.needs} on this machine"}
        done = run(self.command, limit, self.env)
        result = {"command": self.command, "exit": done["exit"], "seconds": done["seconds"], "said": last(done["said"])}
        if self.keeps and done["exit"] == 0:
            try:
                result["record"] = json.loads(done["out"])
                result.pop("said")
            except ValueError as error:
                result |= {"exit": 1, "said": f"{error}: {last(done['out'])}"}
        return result


class Tests:
    """Tests of a packed binary whose names contain one of `names` and none of `but`, on the GPU."""

    def __init__(self, name, limit, binary, names=("",), but=(), ignored=False):
        self.name, self.limit, self.binary, self.names, self.but, self.ignored = name, limit, f"{PACKED}/{binary}", names, but, ignored

    def chosen(self):
        """The tests, and what the binary says where it cannot be asked."""
        def listed(*more):
            said = run([self.binary, "--list", "--format", "terse", *more], 20)
            return said, [line[: -len(": test")] for line in said["out"].splitlines() if line.endswith(": test")]

        (said, every), (_, ignored) = listed(), listed("--ignored")
        tests = ignored if self.ignored else [test for test in every if test not in ignored]
        return said, [test for test in tests if any(name in test for name in self.names) and not any(name in test for name in self.but)]

    def result(self, limit):
        begin = time.monotonic()
        listed, chosen = self.chosen()
        if not chosen:
            return {"exit": listed["exit"] or 1, "said": f"{self.binary}: no such test; {last(listed['said'])}"}

        def one(test):
            left = begin + limit - time.monotonic()
            if left < 1:
                return test, {"exit": 124, "seconds": 0.0, "said": "not begun in time"}
            most = left if self.ignored else min(left, TEST_LIMIT)
            command = [self.binary, "--exact", test, "--nocapture", "--test-threads", "1", "--include-ignored"]
            return test, run(command, most, {"PATARM_TEST_DEVICE": "0", "RUST_BACKTRACE": "0"})

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            done = list(pool.map(one, chosen))
        failed = {test: {"exit": one["exit"], "said": last(one["said"], 1500)} for test, one in done if one["exit"] != 0}
        facts = [line.partition("fact: ")[2] for _, one in done for line in one["said"].splitlines() if "fact: " in line]
        return {
            "exit": 1 if failed else 0,
            "seconds": round(time.monotonic() - begin, 2),
            "passed": {test: one["seconds"] for test, one in done if one["exit"] == 0},
            "failed": failed,
            "facts": facts,
        }


def sanitizer(tool):
    """Every kernel of a tiny step, under one of NVIDIA's checkers."""
    subject = [f"{PACKED}/cuda_step", "--exact", "the_orders_in_which_threads_run_leave_the_same_bits", "--test-threads", "1"]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", *subject]
    return Command(f"sanitizer_{tool}", 60, *command, needs="compute-sanitizer", env={"PATARM_TEST_DEVICE": "0"})


def check(folder):
    facts = "name,driver_version,compute_cap,memory.total,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,power.limit"
    demo = "--device cuda --dtype bf16 --sft.steps 120 --rl.steps 20 --evaluation.every 10 --evaluation.held_out_pairs 100"
    return [
        Command("device", 15, "nvidia-smi", f"--query-gpu={facts}", "--format=csv"),
        Command("program", 10, PATARM, "--version"),
        Tests("conformance", 60, "kernels", ["conformance::"]),
        Tests("bit_questions", 60, "kernels", ["bit_questions::"]),
        Command("selftest", 60, PATARM, "selftest", "--device", "cuda"),
        Tests("cuda_step", 60, "cuda_step"),
        Tests("kernels", 120, "kernels", but=["conformance::", "bit_questions::"]),
        Tests("on_policy", 60, "on_policy"),
        Command("demo", 90, PATARM, "train", "--out", f"{folder}/demo", *demo.split(), "--evaluation.validation_pairs", "40"),
        Tests("parity", 150, "cuda_step", ["parity::"], ignored=True),
        *map(sanitizer, ["memcheck", "racecheck", "synccheck"]),
        Command("ncu", 10, "ncu", "--version", needs="ncu"),
        Command("nsys", 10, "nsys", "--version", needs="nsys"),
    ]


# Groups of cases: one that hangs leaves the others.
GROUPS = ["product_forward", "product_backward", "attention", "head", "grpo_loss", "sample", "rms_norm", "rope", "swiglu", "embedding", "adamw", "grad_norm", "rows", "kv"]


def kernels(name, limit, group, *more):
    return Command(name, limit, PATARM, "bench", "kernels", "--device", "cuda", "--filter", group, *more, keeps=True)


def bench(_):
    layers = ["--device", "cuda", "--dtype", "bf16"]
    step = ["train-step", *layers, "--config", "models/qwen3-8b", "--layers", "4", "--sequences", "8", "--length", "2048"]
    decode = ["decode", *layers, "--config", "models/qwen3-8b", "--layers", "4", "--prompt", "1024", "--steps", "64"]
    return [
        *[kernels(group, 60, group) for group in GROUPS],
        Command("train_step", 90, PATARM, "bench", *step, keeps=True),
        *[Command(f"decode_{n}", 60, PATARM, "bench", *decode, "--batch", n, keeps=True) for n in ["1", "64", "256"]],
    ]


# What runs the same shapes, by the cases that it serves.
PEERS = {
    "attention_forward": ["cudnn", "flash"],
    "attention_backward": ["cudnn", "flash"],
    "product_forward": ["torch"],
    "product_backward": ["torch"],
    "adamw_step": ["torch"],
    "rms_norm": ["compiled"],
    "swiglu": ["compiled"],
    "head_gradient": ["products", "torch", "liger"],
    "head_token_logprob": ["torch", "trl"],
}


def peers(_):
    def beside(group, names):
        return [part for name in names for part in ("--peer", f"{sys.executable} benches/reference/kernels.py --by {name}")]

    versions = "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), torch.cuda.get_device_name())"
    return [
        Command("torch", 60, sys.executable, "-c", versions),
        *[kernels(group, 110, group, "--repeats", "20", *beside(group, names)) for group, names in PEERS.items()],
    ]


class Record:
    """One JSON file, whole after every step."""

    def __init__(self, mode):
        name = f"gpu_{mode}.json"
        self.path = os.path.join(os.environ.get("OUT", "."), name)
        known = [path for path in (self.path, os.path.join(PACKED, name)) if os.path.exists(path)]
        self.content = json.load(open(known[0])) if known else {"what": f"gpu_{mode}", "steps": {}}

    def known(self, name):
        return name in self.content["steps"]

    def add(self, name, result, program):
        self.content["steps"][name] = result | {"program": program, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        with open(f"{self.path}.new", "w") as file:
            json.dump(self.content, file, indent=1)
        os.replace(f"{self.path}.new", self.path)


def program():
    """Commit and content of what was packed."""
    def digest(path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()[:16]

    names = [name for name in ("patarm", "kernels", "on_policy", "cuda_step") if os.path.exists(f"{PACKED}/{name}")]
    commit = open(f"{PACKED}/commit").read().strip() if os.path.exists(f"{PACKED}/commit") else None
    return {"commit": commit} | {name: digest(f"{PACKED}/{name}") for name in names}


def install_wheels(folder):
    wheels = [f".whl/{name}" for name in os.listdir(".whl") if name.endswith(".whl")] if os.path.isdir(".whl") else []
    if wheels:
        site = f"{folder}/site"
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--target", site, *wheels]
        done = run(pip, 60)
        print(last(done["said"]) or f"installed {len(wheels)} wheels", file=sys.stderr)
        os.environ["PYTHONPATH"] = site


# Failed tests of a step that are told as they come; the record holds all.
MOST_TOLD = 8


def reason(test):
    """What a test panicked with, in one line."""
    lines = test["said"].partition("panicked at ")[2].splitlines()
    return "out of time" if test["exit"] == 124 else lines[1][:300] if len(lines) > 1 else f"exit {test['exit']}"


def tell(step, result):
    how = {0: "ok", 124: "out of time", None: "not run"}.get(result["exit"], f"failed ({result['exit']})")
    print(f"== {step.name}: {how}, {result.get('seconds', 0)} s", file=sys.stderr, flush=True)
    for line in result.get("facts", []):
        print(f"   {line}", file=sys.stderr)
    for test, one in list(result.get("failed", {}).items())[:MOST_TOLD]:
        print(f"   failed: {test}: {reason(one)}", file=sys.stderr)
    if (more := len(result.get("failed", {})) - MOST_TOLD) > 0:
        print(f"   failed: {more} more", file=sys.stderr)
    if result["exit"] != 0 and "failed" not in result:
        print("   " + last(result.get("not_run") or result["said"], 400).strip().replace("\n", "\n   "), file=sys.stderr)


def main():
    modes = {"check": check, "bench": bench, "peers": peers}
    parser = argparse.ArgumentParser(prog="benches/gpu_suite.sh")
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--again", action="append", default=[], metavar="NAME", help="repeat a step that has a result")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="run this step and no other")
    parser.add_argument("--list", action="store_true", help="name the steps")
    arguments = parser.parse_args()
    begin, folder = time.monotonic(), tempfile.mkdtemp()
    steps = modes[arguments.mode](folder)
    names = [step.name for step in steps]
    if arguments.list:
        print("\n".join(names))
        return
    if unknown := set(arguments.again + arguments.only) - set(names):
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    record, what = Record(arguments.mode), program()
    try:
        if arguments.mode == "peers":
            install_wheels(folder)
        for step in steps:
            left = WHOLE - (time.monotonic() - begin)
            wanted = step.name in arguments.again or not record.known(step.name)
            if wanted and (not arguments.only or step.name in arguments.only) and left > TOO_LITTLE:
                result = step.result(min(step.limit, left))
                record.add(step.name, result, what)
                tell(step, result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    done = record.content["steps"]
    failed = [name for name in names if name in done and done[name]["exit"] not in (0, None)]
    left = [name for name in names if name not in done]
    older = [name for name in names if name in done and done[name]["program"] != what]
    for words, some in (("failed", failed), ("left for another call", left), ("by another build", older)):
        if some:
            print(f"{words}: {', '.join(some)}", file=sys.stderr)
    sys.exit(1 if failed or left else 0)


if __name__ == "__main__":
    main()
