"""The two maps of 8-bit moments by the recipe of Dettmers et al. (arXiv 2110.02861) as bitsandbytes and torchao write it down.

python tests/golden/dynamic_map.py > tests/golden/dynamic_map.json"""

import json

import numpy as np


def dynamic_map(signed):
    numbers = [0.0, 1.0]
    for i in range(7):
        count = 2**i if signed else 2 ** (i + 1)
        bounds = np.linspace(0.1, 1.0, count + 1)
        means = 10.0 ** (i - 6) * (bounds[:-1] + bounds[1:]) / 2.0
        numbers += means.tolist()
        if signed:
            numbers += (-means).tolist()
    assert len(numbers) == 256
    return sorted(numbers)


print(json.dumps({"signed": dynamic_map(True), "unsigned": dynamic_map(False)}))
