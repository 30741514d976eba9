#!/usr/bin/env bash
# Makes 5 million events once, then times the queries of queries/ as whole processes and prints a table.
#
#   QUERIES="by_type by_user"   only these
#   ROUNDS=3                    medians of three runs
#   PYTHON=/path/to/python      one that has pyspark: Spark runs the same in turn
#   SCALING=1                   also with one worker, and as two processes of one worker each
#   TIDEMARK=/path/to/tidemark  another binary
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/target/json_analytics}
tidemark=${TIDEMARK:-$root/target/release/tidemark}
rounds=${ROUNDS:-1}
mkdir -p "$work"
cp -r "$root"/benches/json_analytics/{queries,*.sql,*.py} "$work"
cd "$work"
[ -d data ] || "$tidemark" run generate.sql -w 2
[ -d csv ] || "$tidemark" run convert.sql -w 2
queries=${QUERIES:-by_type by_user from_csv from_parquet filter to_json to_parquet sliding sessions distinct nested}

# The script of a query: where it reads and writes, then the SELECT.
script() {
    read -r from to mode < <(sed -n 's/^-- from \(.*\) to \(.*\), \(.*\)$/\1 \2 \3/p' "queries/$1.sql")
    local path=$from sink="'connector' = 'noop'"
    [ "$from" = json ] && path=data
    [ "$to" = noop ] || sink="'connector' = 'file', 'path' = 'out/$1', 'format' = '$to'"
    cat <<SQL
CREATE TABLE events (
  event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE,
  WATERMARK FOR timestamp AS timestamp - INTERVAL '10' MINUTE
) WITH ('connector' = 'file', 'path' = '$path', 'format' = '$from', 'maxFilesPerTrigger' = '1');
CREATE TABLE result WITH ($sink, 'outputMode' = '$mode', 'trigger' = 'available-now',
  'checkpointLocation' = 'checkpoint/$1');
INSERT INTO result
$(cat "queries/$1.sql");
SQL
}

# Wall seconds, CPU seconds and peak kilobytes of a run with the given options.
once() {
    local name=$1
    shift
    rm -rf "checkpoint/$name" "out/$name"
    /usr/bin/time -o time.txt -f '%e %U %S %M' "$tidemark" run "$name.run.sql" --progress none "$@"
    awk '{ print $1, $2 + $3, $4 }' time.txt
}

# The same for two processes: the wall time of the first, CPU of both, the greater peak.
pair() {
    local name=$1 hosts=hosts.txt
    printf '127.0.0.1:41371\n127.0.0.1:41372\n' > "$hosts"
    rm -rf "checkpoint/$name" "out/$name"
    /usr/bin/time -o time.1.txt -f '%e %U %S %M' "$tidemark" run "$name.run.sql" --progress none -w 1 -n 2 -p 1 -H "$hosts" &
    /usr/bin/time -o time.0.txt -f '%e %U %S %M' "$tidemark" run "$name.run.sql" --progress none -w 1 -n 2 -p 0 -H "$hosts"
    wait
    awk 'NR == 1 { wall = $1 } { cpu += $2 + $3; if ($4 > peak) peak = $4 } END { print wall, cpu, peak }' time.0.txt time.1.txt
}

# The run with the median wall time of those that standard input has, one a line.
median() { sort -n | awk '{ line[NR] = $0 } END { print line[int((NR + 1) / 2)] }'; }

header='| query | workers | wall | CPU | peak memory | million rows/s |'
rule='|---|---|---|---|---|---|'
if [ -n "${PYTHON:-}" ]; then
    header+=' Spark | its time to ours |'
    rule+='---|---|'
fi
printf '%s\n%s\n' "$header" "$rule"
for query in $queries; do
    script "$query" > "$query.run.sql"
    ours=() one=() two=() spark=()
    for _ in $(seq "$rounds"); do
        ours+=("$(once "$query" -w 2)")
        if [ -n "${SCALING:-}" ]; then
            one+=("$(once "$query" -w 1)")
            two+=("$(pair "$query")")
        fi
        [ -z "${PYTHON:-}" ] || spark+=("$("$PYTHON" spark.py "$query" 2>/dev/null | tail -1)")
    done
    show() { awk -v q="$query" -v w="$1" '{ printf "| %s | %s | %.1f s | %.1f s | %d MB | %.2f |", q, w, $1, $2, $3 / 1000, 5 / $1 }'; }
    printf '%s\n' "${ours[@]}" | median | show 2
    if [ -n "${PYTHON:-}" ]; then
        wall=$(printf '%s\n' "${ours[@]}" | median | cut -d' ' -f1)
        printf '%s\n' "${spark[@]}" | median |
            awk -v wall="$wall" '/^refused/ { printf " %s | |", $0; next } { printf " %.1f s | %.1f |", $1, $1 / wall }'
    fi
    echo
    if [ -n "${SCALING:-}" ]; then
        printf '%s\n' "${one[@]}" | median | show 1
        echo
        printf '%s\n' "${two[@]}" | median | show '2 processes of 1'
        echo
    fi
done
