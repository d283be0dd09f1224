#!/usr/bin/env bash
# All that is measured on one GPU, in one run of nine minutes:
#
#     benchmarks/gpu.sh WORKLOAD.py DATA OUT
#
# WORKLOAD.py generates the standard workload, DATA holds the data set amazon_beauty, OUT gets what is found: a line of figures.tsv
# for each figure (name, JSON), and what was said. The most important comes first; what does not fit the time, or fails, is named there too.
# SMALL=1 takes the same way with a few rows, which a CPU can do: a rehearsal.
set -u -o pipefail
workload=$1 data=$2 out=$3
small=${SMALL:-}
minutes=${MINUTES:-9}
deadline=$((SECONDS + minutes * 60))
mkdir -p "$out/logs"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# measure NAME SECONDS COMMAND...: the last line that the command prints is the figure.
measure() {
    local name=$1 seconds=$2 left=$((deadline - SECONDS)) log
    shift 2
    log="$out/logs/${name// /-}"
    if ((left < 10)); then
        printf '%s\t"left out: no time"\n' "$name" >>"$out/figures.tsv"
    elif timeout $((seconds < left ? seconds : left)) "$@" >"$log" 2>"$log.err"; then
        printf '%s\t%s\n' "$name" "$(tail -n 1 "$log")" >>"$out/figures.tsv"
    else
        printf '%s\t"failed: status %s"\n' "$name" $? >>"$out/figures.tsv"
    fi
    tail -n 1 "$out/figures.tsv"
}

# timed NAME SECONDS COMMAND...: the figure is how long the whole command takes.
timed() {
    local name=$1 seconds=$2
    shift 2
    # shellcheck disable=SC2016  # the inner shell is to expand them
    measure "$name" "$seconds" bash -c 'started=$(date +%s%3N); "$@" >&2 && echo "{\"ms\": $(($(date +%s%3N) - started))}"' - "$@"
}

if [[ $small ]]; then
    rows=20000 batches=(64 256) steps=(--steps 4 --warm-up 2)
else
    rows=400000 batches=(4096 32768 131072) steps=(--steps 40 --warm-up 10)
fi

# step NAME SECONDS EXPERIMENT RUN BATCH HELD [SETTINGS]: steps of a training in both precisions, over so many batches in memory.
step() {
    local name=$1 seconds=$2 experiment=$3 run=$4 batch=$5 held=$6 more=${7:-} precision
    for precision in bf16 fp32; do
        measure "$name, $precision, $batch rows" "$seconds" torchrun --nproc_per_node 1 -m benchmarks.training_step \
            --experiment "$experiment" --run-dir "$run" --batches "$held" "${steps[@]}" \
            --set "training.batch_size=$batch" --set "training.precision=$precision" ${more:+--set "$more"}
    done
}

python "$workload" --out "$work/source" --rows $rows --files 4 >"$out/logs/workload" || exit 1
python - "$work" <<'PYTHON' || exit 1
import sys
from pathlib import Path

from benchmarks.workload_experiment import write_workload

write_workload(Path(sys.argv[1]) / "source", Path(sys.argv[1]) / "work")
PYTHON

for model in full plain; do
    timed "end to end, $model, ${batches[0]} rows" 90 foundrank train "$work/work/$model.yaml" --run-dir "$work/$model" -p 1 \
        --set "training.batch_size=${batches[0]}; training.epochs=1; training.precision=auto"
    cp "$work/$model/metrics.jsonl" "$out/logs/metrics-$model.jsonl"
done
for batch in "${batches[@]}"; do
    held=$((batch > 32768 ? 2 : batch > 4096 ? 6 : 24))
    measure "plain TorchRec loop, $batch rows" 60 torchrun --nproc_per_node 1 -m benchmarks.plain_torchrec \
        --source "$work/source" --batch-size "$batch" --batches $held "${steps[@]}"
    for model in full plain; do
        step "$model" 60 "$work/work/$model.yaml" "$work/$model" "$batch" $held
    done
    if ((batch == batches[0])); then
        step "full, one graph" 90 "$work/work/full.yaml" "$work/full" "$batch" $held "training.compile=true"
    fi
done
measure "trace, full, ${batches[0]} rows" 60 torchrun --nproc_per_node 1 -m benchmarks.training_step --trace \
    --experiment "$work/work/full.yaml" --run-dir "$work/full" "${steps[@]}" --set "training.batch_size=${batches[0]}"
python -c '
import sys
from pathlib import Path

from benchmarks.speed import write_scoring_input

write_scoring_input(Path(sys.argv[1]) / "source", Path(sys.argv[1]) / "input")' "$work"
timed "scoring, full" 60 foundrank score "$work/full" "$work/input" "$work/scores" -p 1
for tables in "" --half; do
    # shellcheck disable=SC2086  # nothing, or an option
    measure "lookups${tables:+, float16}" 60 python -m benchmarks.lookups $tables ${small:+--rows 256 --size 2000 --repeats 3}
done

beauty=$work/beauty
timed "import amazon-beauty" 60 foundrank import amazon-beauty "$data/amazon_beauty" "$beauty"
timed "embed, MiniLM" 90 foundrank embed "$beauty" -p 1
for encoder in sasrec hstu; do
    timed "count, $encoder" 60 foundrank train "$beauty" --run-dir "$work/$encoder" -p 1 \
        --set "model.history.encoder=$encoder; training.max_steps=1; training.keep_best=false; training.epochs=1"
    for batch in "${batches[@]}"; do
        step "$encoder" 45 "$work/$encoder/experiment.yaml" "$work/$encoder" "$batch" $((batch > 4096 ? 1 : 4))
    done
done
# As large as published encoders of 0.1 billion parameters, with random weights: none is at hand without a network.
python - "$work/decoder" "${small}" <<'PYTHON' 2>"$out/logs/decoder.err"
import sys

from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from foundrank.data.config.sections.text import TextConfig
from foundrank.model.contents.text_encoder_loading import model_source

width, layers = (64, 2) if sys.argv[2] else (768, 12)
tokenizer = AutoTokenizer.from_pretrained(model_source(TextConfig()))
sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": 4 * width, "num_attention_heads": 4}
LlamaModel(LlamaConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(sys.argv[1])
tokenizer.save_pretrained(sys.argv[1])
PYTHON
timed "embed, a decoder of 0.1 billion" 120 foundrank embed "$beauty" -p 1 --set "text.encoder=$work/decoder; text.store=decoder_store"
nvidia-smi >"$out/logs/nvidia-smi" 2>&1
echo "figures: $out/figures.tsv"
