"""A folder as transformers itself saves it: sharded with an index, its newest config.json and generation_config.json.

    python tests/golden/saved.py

The weights are those of qwen3_tied_full.safetensors, so that a test knows every bit that it must find.
"""

import shutil

import torch
from safetensors.torch import load_file

import cases

NAME = "qwen3_tied_full"


def main():
    folder = cases.FOLDER / "saved_by_transformers"
    shutil.rmtree(folder, ignore_errors=True)
    golden = load_file(cases.FOLDER / f"{NAME}.safetensors")
    weights = {k.removeprefix("weight."): v for k, v in golden.items() if k.startswith("weight.")}
    model = cases.transformers_model(cases.CASES[NAME], weights)
    model.generation_config.eos_token_id = [1, 5]
    model.save_pretrained(folder, max_shard_size="8KB")
    assert all(torch.equal(p, weights[k]) for k, p in model.named_parameters())
    for file in sorted(folder.iterdir()):
        file.chmod(0o644)
        print(file.name, file.stat().st_size)
    cases.record_versions("saved.py", ["torch", "transformers", "safetensors"])


if __name__ == "__main__":
    main()
