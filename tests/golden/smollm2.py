"""SmolLM2 by transformers: tokens, teacher-forced log-probabilities and greedy continuations of ten conversations.

    python models/smollm2-135m/fetch.py ../smollm2-135m
    cargo build && python tests/golden/smollm2.py ../smollm2-135m target/debug/patarm

float32, eager attention. Each conversation is rendered by the folder's template and continued greedily; every token of the whole is
then measured in one pass, with the gap between the two largest logits at each greedy step. The record also holds what patarm
differs by where it is made (`measured`), and the ids of texts that a tokenizer may stumble over.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import cases

NEW_TOKENS = 48
CONVERSATIONS = [
    [("user", "What is the capital of France?")],
    [("user", "Which answer is better?\nA: 17 + 25 = 42\nB: 17 + 25 = 43")],
    [("system", "You answer with one word."), ("user", "Is the sun a star?")],
    [("user", "Write a Python function that reverses a string.")],
    [("user", "Tell me a story about a lighthouse keeper and a storm.")],
    [("user", "Hi!"), ("assistant", "Hello! How can I help you today?"), ("user", "Give me three words that rhyme with cat.")],
    [("user", "Übersetze ins Englische: »Der Käse ist gut, nicht wahr?« 🙂")],
    [("user", "Explain in two sentences why the sky is blue.")],
    [("system", "You are a strict judge. End with a score from 1 to 10."),
     ("user", "Question: How many legs has a spider?\nAnswer: Six, like every insect.\nJudge the answer.")],
    [("user", "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144")],
]
TEXTS = [
    "", " ", "a", "  two  spaces\n\n\tand a tab ", "It's we'll I'd they've you're I'm DON'T", "3.14159 + 2,718,281 = 10^-7",
    "ÄÖÜß éèê çñ ø", "日本語のテキスト、 中文 한국어 العربية עברית हिन्दी", "🙂👩‍👩‍👧‍👦🇩🇪", "e\u0301 \u00e9 \ufb01 \u212b", "\u0000\u0001\u0004\u001d\u007f\u0085\u00a0\u2028\ufeff",
    "fn main() {\r\n    println!(\"{:?}\", vec![1u8; 3]);\r\n}", "x" * 70, "https://example.org/a?b=c&d=%20#e", "½ ² ٣ Ⅷ 〇 ①",
    "<|im_start|>user\nhello<|im_end|>\n", "<|endoftext|><|im_end|><repo_name><file_sep>a", "<|im_start", "\U0001f9d1\U00050000\U000f0000",
]


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def continued(model, tokenizer, turns):
    """Ids of the rendered conversation, its greedy continuation, every token's log-probability, and the gaps."""
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        whole = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=NEW_TOKENS)[0]
        logits = model(whole[None]).logits[0, :-1]
    greedy = whole[len(prompt):]
    best = logits[len(prompt) - 1:].topk(2).values
    assert torch.equal(logits[len(prompt) - 1:].argmax(-1), greedy), "cached and whole passes chose the same tokens"
    chosen = torch.log_softmax(logits.double(), dim=-1).gather(1, whole[1:, None])[:, 0]
    return {
        "messages": messages, "prompt": prompt, "greedy": greedy.tolist(),
        "logprobs": [float(f"{x:.8g}") for x in chosen.tolist()],
        "gaps": [float(f"{x:.4g}") for x in (best[:, 0] - best[:, 1]).tolist()],
    }


def measure(folder, patarm, rows):
    """What patarm's log-probabilities differ by."""
    with tempfile.TemporaryDirectory() as temporary:
        path = pathlib.Path(temporary) / "rows.jsonl"
        path.write_text("".join(json.dumps({"tokens": row["prompt"] + row["greedy"]}) + "\n" for row in rows))
        command = [patarm, "logprobs", "--model", folder, "--in", path, "--dtype", "f32"]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(rows)
    pairs = [pair for row, line in zip(rows, lines) for pair in zip(row["logprobs"], json.loads(line)["logprobs"][1:], strict=True)]
    worst = max(abs(theirs - ours) for theirs, ours in pairs)
    return {"tokens": len(pairs), "largest_difference": float(f"{worst:.3g}"),
            "largest_logprob": max(abs(theirs) for theirs, _ in pairs)}


def main():
    folder, patarm = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows = [continued(model, tokenizer, turns) for turns in CONVERSATIONS]
    for row in rows:
        print(repr(tokenizer.decode(row["greedy"])), min(row["gaps"]))
    record = {
        "weights_sha256": digest(pathlib.Path(folder) / "model.safetensors"), "measured": measure(folder, patarm, rows),
        "eos": tokenizer.eos_token_id, "conversations": rows,
        "texts": [{"text": text, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in TEXTS],
    }
    print(record["measured"])
    text = json.dumps(record, ensure_ascii=False).replace('{"messages"', '\n{"messages"').replace('{"text"', '\n{"text"')
    (cases.FOLDER / "smollm2.json").write_text(text + "\n")
    cases.record_versions("smollm2.py", ["torch", "transformers", "tokenizers"])


if __name__ == "__main__":
    main()
