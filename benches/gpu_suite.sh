#!/usr/bin/env bash
# What can only be known on a GPU, for a machine that has one and neither Rust nor nvcc. In this order:
#
#   benches/gpu_suite.sh pack      here: builds the program and the kernels' tests, stripped and packed, into target/gpu (carry it)
#   benches/gpu_suite.sh check     there: instructions, every kernel case, questions of bits, whole models, the demo, sanitizers
#   benches/gpu_suite.sh bench     there: the device's limits, every kernel's share of them, a training step, decoding
#   benches/gpu_suite.sh peers     there: the same shapes by torch and others, interleaved with ours
#
# The last three end within eight minutes. Each writes one record, $OUT/gpu_<mode>.json (OUT: the current folder where unset), and
# goes on where that, or the one carried in target/gpu, was stopped: what has a result is not repeated but by --again NAME;
# --only NAME runs nothing else, --list names the steps. It ends with 1 and their names where steps failed or are left. Wheels in
# .whl are installed into a folder of the run's own.
set -euo pipefail
cd "$(dirname "$0")/.."
packed=target/gpu
tests=(kernels on_policy cuda_step)

pack() {
    kernels/install_nvcc
    cargo build --release --locked
    mkdir -p $packed
    rm -f $packed/*.gz
    install -s target/release/patarm $packed/patarm
    for name in "${tests[@]}"; do
        local built
        built=$(cargo test --release --locked --no-run --test "$name" --message-format json-render-diagnostics |
            python3 -c 'import json, sys
for line in map(json.loads, sys.stdin):
    if line.get("executable") and line["target"]["kind"] == ["test"]:
        print(line["executable"])')
        install -s "$built" "$packed/$name"
    done
    git rev-parse HEAD >$packed/commit
    gzip -9 --force $packed/patarm "${tests[@]/#/$packed/}"
    du -ch $packed/* | tail -n 1
}

unpack() {
    for binary in "${PATARM_PACKED:-$packed}"/*.gz; do
        if [ -e "$binary" ]; then gunzip --keep --force "$binary"; fi
    done
}

# NVIDIA's own product, which ours is measured beside, comes with torch where it comes at all.
find_libraries() {
    local found
    found=$(python3 -c 'import glob, sys
print(":".join(folder for path in sys.path if path for folder in glob.glob(f"{path}/nvidia/*/lib")))')
    if [ -n "$found" ]; then export LD_LIBRARY_PATH="$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"; fi
}

case ${1-} in
pack) pack ;;
check | bench | peers) unpack; find_libraries; exec python3 benches/gpu_suite.py "$@" ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
