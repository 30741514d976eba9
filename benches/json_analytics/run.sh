#!/usr/bin/env bash
# Makes the data once, then times (a) by type and (b) by user: wall time, CPU and peak memory of the whole process.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/target/json_analytics}
tidemark=$root/target/release/tidemark
mkdir -p "$work"
cp "$root"/benches/json_analytics/*.sql "$work"
cd "$work"
[ -d data ] || "$tidemark" run generate.sql -w 2
for query in by_type by_user; do
    rm -rf "checkpoint/$query"
    echo "== $query"
    /usr/bin/time -f '%e s wall, %U s user, %S s sys, %M KB peak' "$tidemark" run "$query.sql" -w 2 --progress none
done
