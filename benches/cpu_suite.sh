#!/bin/sh
# Measures patarm beside PyTorch and transformers on this CPU, repeat by repeat (A B A B), and leaves one record a comparison in
# benches/results. Run it from the repository's root on an idle machine:
#
#     benches/cpu_suite.sh [PYTHON] [REPEATS]
#
# PYTHON has torch and transformers (benches/reference/README.md). A record from a changed tree says so itself.
set -eu
python=${1:-python3}
repeats=${2:-5}
cargo build --release --locked
results=benches/results
mkdir -p "$results"
patarm=target/release/patarm
reference="$python benches/reference"

# measure NAME COMMAND... : one record
measure() {
    name=$1
    shift
    echo "$name" >&2
    "$patarm" bench "$@" --threads 2 --repeats "$repeats" > "$results/$name.json.part"
    mv "$results/$name.json.part" "$results/$name.json"
}

measure train_step_f32 train-step --layers 4 --dtype f32 \
    --peer "$reference/train_step.py --dtype f32"
measure train_step_bf16 train-step --layers 4 --dtype bf16 \
    --peer "$reference/train_step.py --dtype bf16"
for dtype in f32 bf16; do
    for batch in 1 16; do
        measure "decode_${dtype}_batch_$batch" decode --dtype "$dtype" --batch "$batch" \
            --peer "$reference/decode.py --dtype $dtype --batch $batch" \
            --peer "$reference/decode.py --dtype $dtype --batch $batch --static --compile"
    done
done
