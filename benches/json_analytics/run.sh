#!/usr/bin/env bash
# Makes the data once, then times (a) by type and (b) by user: wall time, CPU and peak memory of the whole process.
# Where PYTHON names a Python that has pyspark, Spark runs the same in turn; ROUNDS says how often (1).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/target/json_analytics}
tidemark=${TIDEMARK:-$root/target/release/tidemark}
mkdir -p "$work"
cp "$root"/benches/json_analytics/*.{sql,py} "$work"
cd "$work"
[ -d data ] || "$tidemark" run generate.sql -w 2
for query in by_type by_user; do
    for _ in $(seq "${ROUNDS:-1}"); do
        rm -rf "checkpoint/$query"
        echo "== $query"
        /usr/bin/time -f '%e s wall, %U s user, %S s sys, %M KB peak' "$tidemark" run "$query.sql" -w 2 --progress none
        if [ -n "${PYTHON:-}" ]; then
            echo "== $query, Spark"
            "$PYTHON" spark.py "$query" 2>/dev/null
        fi
    done
done
