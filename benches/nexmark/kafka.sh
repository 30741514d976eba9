#!/usr/bin/env bash
# Runs Nexmark's queries over topics of a Kafka broker that it starts on the loopback interface: events as JSON, a topic
# for each table, one epoch after the other. Whole processes, as a table; the broker is not counted.
#
#   QUERIES="q0 q5"             some of them; else all
#   EVENTS=5000000              how many; else a million
#   TIDEMARK=/path/to/tidemark  another binary
#   PORT=41690                  the broker's
#
# Needs Java 17 and Maven.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
tidemark=${TIDEMARK:-$target/release/tidemark}
events=${EVENTS:-1000000}
queries=${QUERIES:-$(seq -f 'q%g' 0 22)}
port=${PORT:-41690}
work=$target/nexmark_kafka
"$root/connectors/tests/kafka/get.sh"
rm -rf "$work"
mkdir -p "$work"
cd "$work"

. "$root/benches/broker.sh"

# The events in, in their order: one partition and one worker for each topic.
tables=$root/dataflows/nexmark/tables.sql
servers="'kafka.bootstrap.servers' = '127.0.0.1:$port'"
sed "s/'events' = '[0-9]*'/'events' = '$events'/" "$tables" > load.sql
for table in person auction bid; do
    topic --create --topic "$table" --partitions 1 > /dev/null
    cat >> load.sql <<SQL
CREATE TABLE ${table}_topic WITH ('connector' = 'kafka', $servers, 'topic' = '$table', 'format' = 'json', 'outputMode' = 'append');
INSERT INTO ${table}_topic SELECT * FROM $table;
SQL
done
"$tidemark" run load.sql --progress none

# The same tables over the topics. An epoch takes of each topic what as many events of the generator have.
sed -E "s/'connector' = 'nexmark', 'table' = '([a-z]*)'.*/'connector' = 'kafka', $servers, 'subscribe' = '\1', \
'startingOffsets' = 'earliest', 'format' = 'json', 'maxOffsetsPerTrigger' = '\1-limit');/
    s/person-limit/10000/; s/auction-limit/30000/; s/bid-limit/460000/" "$tables" > tables.sql
echo "SET 'trigger' = 'available-now';" >> tables.sql
printf '| query | wall | CPU | peak memory | million events/s |\n|---|---|---|---|---|\n'
for query in $queries; do
    rm -rf nexmark-q10
    cat tables.sql "$root/dataflows/nexmark/$query.sql" > run.sql
    /usr/bin/time -o time.txt -f '%e %U %S %M' "$tidemark" run run.sql --progress none -w 2
    awk -v q="$query" -v n="$events" \
        '{ printf "| %s | %.1f s | %.1f s | %d MB | %.2f |\n", q, $1, $2 + $3, $4 / 1000, n / $1 / 1e6 }' time.txt
done
