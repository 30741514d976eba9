#!/usr/bin/env bash
# Kafka to Kafka on this machine: how long after a record's append its result is appended, for continuous queries.
#
#   QUERIES="filter count"      only these; `echo` is the client library alone, with LINGER
#   RATE=10000 WARM_UP=15 SECONDS_=60
#   DELIVERY=exactly-once       (at-least-once)
#   OPTIONS="'kafka.linger.ms' = '1',"   more of the output's
#   TIDEMARK=/path/to/tidemark  another binary
#
# Needs Java 17 and Maven. Both topics stamp records as they are appended; see connectors/benches/latency.rs.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
tidemark=${TIDEMARK:-$target/release/tidemark}
rate=${RATE:-10000} warm_up=${WARM_UP:-15} seconds=${SECONDS_:-60} delivery=${DELIVERY:-at-least-once}
queries=${QUERIES:-filter count static window join}
work=$target/latency
port=41490
"$root/connectors/tests/kafka/get.sh"
load=${LOAD:-$(cd "$root" && cargo bench --workspace --bench latency --no-run --message-format json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*latency[^"]*\)".*/\1/p' | tail -1)}
rm -rf "$work"
mkdir -p "$work"
cd "$work"
properties=log.message.timestamp.type=LogAppendTime
. "$root/benches/broker.sh"
query=
trap 'kill $query 2>/dev/null || true; kill -9 $node 2>/dev/null || true; rm -rf "$work/log"' EXIT

servers="'kafka.bootstrap.servers' = '127.0.0.1:$port'"
columns="id BIGINT, key STRING, kind STRING, amount DOUBLE, page STRING, at TIMESTAMP"
watermark="WATERMARK FOR at AS at - INTERVAL '1' SECOND"
input() { echo "CREATE TABLE $1 ($columns${2:+, $2}) WITH ('connector' = 'kafka', $servers, 'subscribe' = '$1-$q', 'startingOffsets' = 'latest', 'format' = 'json');"; }
output() { echo "CREATE TABLE result WITH ('connector' = 'kafka', $servers, 'topic' = 'out-$q', 'format' = 'json', 'keyColumns' = '$1', 'outputMode' = '$2',
  'deliveryGuarantee' = '$delivery', ${OPTIONS:-} 'trigger' = 'continuous 1 second', 'checkpointLocation' = 'checkpoint-$q');
INSERT INTO result"; }
stamp='unix_millis(_metadata.timestamp)'
script() {
    case $q in
        warm | filter)
            input a; output id append
            echo "SELECT id, key, amount * 1.2 AS gross, $stamp AS ts FROM a WHERE kind <> 'cart';" ;;
        count)
            input a; output key update
            echo "SELECT key, count(*) AS n, max($stamp) AS ts FROM a GROUP BY key;" ;;
        static)
            input a
            echo "CREATE TABLE users (key STRING, name STRING) WITH ('connector' = 'file', 'path' = 'users', 'format' = 'csv', 'streaming' = 'false');"
            output id append
            echo "SELECT a.id, u.name, unix_millis(a._metadata.timestamp) AS ts FROM a JOIN users u ON a.key = u.key;" ;;
        window)
            input a "$watermark"
            output key,start update
            echo "SELECT key, window.start AS start, count(*) AS n, max($stamp) AS ts FROM a GROUP BY key, window(at, '10 seconds');" ;;
        join)
            input a "$watermark"
            input b "$watermark"
            output id append
            echo "SELECT a.id, a.key, greatest(unix_millis(a._metadata.timestamp), unix_millis(b._metadata.timestamp)) AS ts FROM a JOIN b ON a.id = b.id AND b.at BETWEEN a.at - INTERVAL '10' SECOND AND a.at + INTERVAL '10' SECOND;" ;;
    esac
}
mkdir users
seq 0 9999 | awk '{ printf "user-%d,Name %d\n", $1, $1 }' > users/users.csv

isolation=read_uncommitted
[ "$delivery" = exactly-once ] && isolation=read_committed
printf '| query | p50 | p99 | p99.9 | max | p99 by third | CPU of a core |\n|---|---|---|---|---|---|---|\n'
# The first run is for the broker, which the JVM compiles meanwhile.
for q in warm $queries; do
    took=$seconds
    [ "$q" = warm ] && took=60
    inputs=a-$q
    [ "$q" = join ] && inputs=a-$q,b-$q
    for name in ${inputs//,/ } out-$q; do
        topic --create --topic "$name" --partitions 2 > /dev/null
    done
    if [ "$q" = echo ]; then
        "$load" echo "127.0.0.1:$port" a-echo out-echo "${LINGER:-0.5}" &
    else
        script > "$q.sql"
        "$tidemark" run "$q.sql" --progress json -w "${WORKERS:-2}" > "$q.log" 2> "$q.progress" &
    fi
    query=$!
    sleep 3
    before=$(awk '{ print $14 + $15 }' "/proc/$query/stat")
    measured=$("$load" "127.0.0.1:$port" "$inputs" "out-$q" "$rate" "$warm_up" "$took" "$isolation")
    after=$(awk '{ print $14 + $15 }' "/proc/$query/stat")
    # A background process of a script does not hear INT unless it asks to.
    if [ "$q" = echo ]; then kill $query; else kill -INT $query; fi
    wait $query || [ "$q" = echo ] || { tail -3 "$q.progress" >&2; exit 1; }
    query=
    [ "$q" = warm ] && continue
    echo "$measured" > "$q.json"
    echo "$measured" | sed 's/[{}"]//g; s/\[\(.*\), \(.*\), \(.*\)\]/\1 \2 \3/' | awk -F'[,:]' -v q="$q" -v cpu=$((after - before)) -v s=$((warm_up + seconds + 3)) \
        '{ for (i = 1; i < NF; i += 2) v[$i] = $(i + 1); printf "| %s | %s | %s | %s | %s | %s | %.0f %% |\n", q, v["p50"], v["p99"], v["p999"], v["max"], v["p99_by_third"], cpu / s }'
done
