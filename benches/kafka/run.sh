#!/usr/bin/env bash
# Times 5 million events into and out of a Kafka broker that it starts on the loopback interface: whole processes, as a table.
#
#   PYTHON=/path/to/python      one that has pyspark: Spark reads the same topic in turn
#   TIDEMARK=/path/to/tidemark  another binary
#   ROUNDS=3                    medians of three runs
#
# Needs Java 17 and Maven. The events are those of ../json_analytics, which has to have made them (its run.sh).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
events=${1:-$target/json_analytics}
tidemark=${TIDEMARK:-$target/release/tidemark}
rounds=${ROUNDS:-1}
work=$target/kafka_bench
port=41390
"$root/connectors/tests/kafka/get.sh"
rm -rf "$work"
mkdir -p "$work"
cp "$root"/benches/kafka/{*.py,pom.xml} "$work"
cd "$work"
[ -e "$events/data" ] || { echo "no events in $events: run benches/json_analytics/run.sh first" >&2; exit 1; }

properties=num.partitions=4
. "$root/benches/broker.sh"

columns="event_id STRING, user_id STRING, event_type STRING, page_url STRING, timestamp TIMESTAMP, amount DOUBLE"
watermark="WATERMARK FOR timestamp AS timestamp - INTERVAL '10' MINUTE"
query=$(cat "$root/benches/json_analytics/queries/by_user.sql")
servers="'kafka.bootstrap.servers' = '127.0.0.1:$port'"
cat > out.sql <<SQL
CREATE TABLE events ($columns) WITH ('connector' = 'file', 'path' = '$events/data', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE copy WITH ('connector' = 'kafka', $servers, 'topic' = 'events', 'format' = 'json', 'deliveryGuarantee' = 'exactly-once',
  'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint');
INSERT INTO copy SELECT * FROM events;
SQL
# Epochs of as many records as a file has.
cat > in.sql <<SQL
CREATE TABLE events ($columns, $watermark) WITH ('connector' = 'kafka', $servers, 'subscribe' = 'events', 'startingOffsets' = 'earliest',
  'format' = 'json', 'maxOffsetsPerTrigger' = '250000');
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update', 'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint');
INSERT INTO result
$query;
SQL
cat > files.sql <<SQL
CREATE TABLE events ($columns, $watermark) WITH ('connector' = 'file', 'path' = '$events/data', 'format' = 'json', 'maxFilesPerTrigger' = '1');
CREATE TABLE result WITH ('connector' = 'noop', 'outputMode' = 'update', 'trigger' = 'available-now', 'checkpointLocation' = 'checkpoint');
INSERT INTO result
$query;
SQL

# Wall seconds, CPU seconds and peak kilobytes of a run.
once() {
    rm -rf checkpoint
    if [ "$1" = out ]; then
        topic --delete --topic events --if-exists > /dev/null
        sleep 2
        topic --create --topic events --partitions 4 > /dev/null
    fi
    /usr/bin/time -o time.txt -f '%e %U %S %M' "$tidemark" run "$1.sql" --progress none -w 2
    awk '{ print $1, $2 + $3, $4 }' time.txt
}

# The run with the median wall time of those that standard input has, one a line.
median() { sort -n | awk '{ line[NR] = $0 } END { print line[int((NR + 1) / 2)] }'; }

printf '| what | wall | CPU | peak memory | million rows/s |\n|---|---|---|---|---|\n'
for what in out in files; do
    ours=()
    for _ in $(seq "$rounds"); do ours+=("$(once $what)"); done
    printf '%s\n' "${ours[@]}" | median |
        awk -v q="$what" '{ printf "| %s | %.1f s | %.1f s | %d MB | %.2f |\n", q, $1, $2, $3 / 1000, 5 / $1 }'
done
if [ -n "${PYTHON:-}" ]; then
    mvn --quiet --batch-mode dependency:copy-dependencies -DoutputDirectory="$target/kafka/spark" >&2
    spark=()
    for _ in $(seq "$rounds"); do spark+=("$("$PYTHON" spark.py "127.0.0.1:$port" "$target/kafka/spark" "$root/benches/json_analytics/queries/by_user.sql" 2> spark.log | tail -1)"); done
    printf '%s\n' "${spark[@]}" | median | awk '{ printf "| in, Spark | %.1f s | | | %.2f |\n", $1, 5 / $1 }'
fi
