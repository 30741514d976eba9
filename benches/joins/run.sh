#!/usr/bin/env bash
# Makes two streams of 2.5 million events and a table once, then times the queries of queries/ as whole processes and prints a table.
#
#   QUERIES="interval"          only these
#   ROUNDS=3                    medians of three runs
#   PYTHON=/path/to/python      one that has pyspark: Spark runs the same in turn
#   TIDEMARK=/path/to/tidemark  another binary
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-${CARGO_TARGET_DIR:-$root/target}/joins}
tidemark=${TIDEMARK:-${CARGO_TARGET_DIR:-$root/target}/release/tidemark}
rounds=${ROUNDS:-1}
mkdir -p "$work"
cp -r "$root"/benches/joins/{queries,*.sql,*.py} "$work"
cd "$work"
[ -d pages ] || "$tidemark" run generate.sql -w 2
queries=${QUERIES:-interval outer static filter}

script() {
    cat <<SQL
CREATE TABLE shown (id STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE, WATERMARK FOR timestamp AS timestamp - INTERVAL '20' MINUTE)
  WITH ('connector' = 'file', 'path' = 'shown', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE clicked (id STRING, timestamp TIMESTAMP, button STRING, WATERMARK FOR timestamp AS timestamp - INTERVAL '20' MINUTE)
  WITH ('connector' = 'file', 'path' = 'clicked', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE pages (page_url STRING, title STRING) WITH ('connector' = 'file', 'path' = 'pages', 'format' = 'json', 'streaming' = 'false');
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'append', 'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint/$1');
INSERT INTO result
$(cat "queries/$1.sql");
SQL
}

# Wall seconds, CPU seconds and peak kilobytes of a run.
once() {
    rm -rf "checkpoint/$1"
    /usr/bin/time -o time.txt -f '%e %U %S %M' "$tidemark" run "$1.run.sql" --progress none -w 2
    awk '{ print $1, $2 + $3, $4 }' time.txt
}

# The run with the median wall time of those that standard input has, one a line.
median() { sort -n | awk '{ line[NR] = $0 } END { print line[int((NR + 1) / 2)] }'; }

printf '| query | wall | CPU | peak memory |'
[ -z "${PYTHON:-}" ] || printf ' Spark | its time to ours | its heap |'
printf '\n'
for query in $queries; do
    script "$query" > "$query.run.sql"
    ours=() spark=()
    for _ in $(seq "$rounds"); do
        ours+=("$(once "$query")")
        [ -z "${PYTHON:-}" ] || spark+=("$("$PYTHON" spark.py "$query" 2>/dev/null | tail -1)")
    done
    ours=$(printf '%s\n' "${ours[@]}" | median)
    awk -v q="$query" '{ printf "| %s | %.1f s | %.1f s | %d MB |", q, $1, $2, $3 / 1000 }' <<< "$ours"
    if [ -n "${PYTHON:-}" ]; then
        printf '%s\n' "${spark[@]}" | median |
            awk -v wall="${ours%% *}" '{ printf " %.1f s | %.1f | %d MB |", $1, $1 / wall, $2 }'
    fi
    echo
done
