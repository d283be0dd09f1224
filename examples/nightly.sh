#!/usr/bin/env bash
# One night: embed new texts, train, measure, promote what is good enough, score. After whatever has stopped it, run it again:
# what is done is not done twice. After midnight say which night: DAY=2026-11-27 bash nightly.sh. Leaves with 3 where a threshold was
# passed, else as the command that failed.
#
#   0 3 * * *  cd /srv/shop && EXPERIMENT=shop.yaml bash nightly.sh >> nightly.log 2>&1
set -euo pipefail

EXPERIMENT=${EXPERIMENT:?an experiment file}
DAY=${DAY:-$(date -u +%F)}
LOGS=${LOGS:-logs}       # LOGS/day=DAY holds what is to be scored
SCORES=${SCORES:-scores} # a folder, not a URI: the day before is looked for in it
RUNS=${RUNS:-runs}
CURRENT=${CURRENT:-models/current}
GATE=${GATE:-click.auc=0.70}
PROCESSES=${PROCESSES:-1}
SET=${SET:-}             # overrides for the training: 'training.epochs=1; seed=7'

step() { # a command, again while it is told to go on (status 75), six times in all
    local status=0 tries
    for tries in 1 2 3 4 5 6; do
        status=0
        foundrank "$@" || status=$?
        [ "$status" -eq 75 ] || break
        [ "$tries" -eq 6 ] || sleep "${PAUSE:-60}"
    done
    return "$status"
}

case $SCORES in *://*) echo "SCORES: $SCORES is a URI; give a folder" >&2; exit 2 ;; esac
echo "the night of $DAY"

passed=0
step embed "$EXPERIMENT" -p "$PROCESSES"
step train "$EXPERIMENT" --run-dir "$RUNS/$DAY" -p "$PROCESSES" ${SET:+--set "$SET"}

status=0
step evaluate "$RUNS/$DAY" -p "$PROCESSES" --fail-below "$GATE" || status=$?
case $status in
    0) step promote "$RUNS/$DAY" "$CURRENT" ;;
    3) passed=3 && echo "not promoted: $RUNS/$DAY; scoring with the model before" ;;
    *) exit "$status" ;;
esac

# The last day before this one that passed no threshold: a bad night is nothing to compare with.
before=
for summary in "$SCORES"/day=*/_summary.json; do
    [[ -f $summary && $summary < $SCORES/day=$DAY/ ]] || continue
    ! grep -q '"thresholds_passed": \[\]' "$summary" || before=$summary
done
status=0
step score "$CURRENT" "$LOGS/day=$DAY" "$SCORES/day=$DAY" -p "$PROCESSES" \
    --max-null-share 0.01 --max-mean-shift 0.05 ${before:+--against "$before"} || status=$?
[ "$status" -eq 0 ] || exit "$status"
exit "$passed"
