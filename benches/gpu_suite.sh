#!/usr/bin/env bash
# What can only be known on a GPU, for a machine that has one and neither Rust nor nvcc.
#
#   benches/gpu_suite.sh pack     here: builds the program and the tests of the kernels, stripped, into target/gpu (carry it)
#   benches/gpu_suite.sh check    there: every kernel case, sampling against training to the bit, a whole step, the demo
#
# check writes one JSON line a step to $OUT/gpu_check.jsonl (OUT: the current folder where unset) and goes on where it was
# stopped: a step with a line is not repeated. It ends with 1 and their names where steps failed.
set -euo pipefail
cd "$(dirname "$0")/.."
packed=target/gpu
tests=(kernels on_policy cuda_step)

pack() {
    kernels/install_nvcc
    cargo build --release --locked
    mkdir -p $packed
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
    du -ch $packed/* | tail -n 1
}

# step NAME COMMAND...: runs it unless it has a line already; a line says how it ended, how long it took, its last words.
step() {
    local name=$1 begin=$SECONDS code=0
    shift
    grep -qs "\"step\": \"$name\"" "$record" && return
    echo "== $name" >&2
    timeout 420 "$@" >"$log" 2>&1 || code=$?
    python3 - "$name" $code $((SECONDS - begin)) "$log" >>"$record" <<'PYTHON'
import json, sys
name, code, seconds, log = sys.argv[1:]
words = open(log, errors="replace").read()[-4000:]
print(json.dumps({"step": name, "exit": int(code), "seconds": int(seconds), "said": words}))
PYTHON
    tail -n 3 "$log" >&2
}

check() {
    record=${OUT:-.}/gpu_check.jsonl
    log=$(mktemp)
    step device nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv
    step commit git rev-parse HEAD
    step program $packed/patarm --version
    for name in "${tests[@]}"; do
        PATARM_TEST_DEVICE=0 step "$name" "$packed/$name" --test-threads 1
    done
    local run
    run=$(mktemp -d)
    step demo $packed/patarm train --device cuda --dtype bf16 --out "$run/demo" --sft.steps 120 --rl.steps 20 \
        --evaluation.every 10 --evaluation.held_out_pairs 100 --evaluation.validation_pairs 40
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck synccheck; do
            PATARM_TEST_DEVICE=0 step sanitizer_$tool compute-sanitizer --tool $tool --error-exitcode 9 \
                $packed/cuda_step --test-threads 1
        done
    else
        step sanitizer echo "there is no compute-sanitizer on this machine"
    fi
    rm -rf "$run" "$log"
    python3 - "$record" <<'PYTHON'
import json, sys
failed = [step["step"] for step in map(json.loads, open(sys.argv[1])) if step["exit"] != 0]
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
PYTHON
}

case ${1-} in
pack | check) "$1" ;;
*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
