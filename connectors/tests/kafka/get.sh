#!/usr/bin/env bash
# Gets the broker of the Kafka tests into target/kafka/libs. Says why where that cannot be: the tests
# then run on the mock cluster of their client library.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../target}/kafka
[ -e "$target/complete" ] && exit 0
missing() {
    echo "$1: the Kafka tests run on librdkafka's in-process mock cluster, and those that need a real broker are left out." >&2
    exit 0
}
java=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' || true)
[ "${java:-0}" -ge 17 ] || missing "Java 17 or later is missing"
command -v mvn >/dev/null || missing "Maven (mvn) is missing"
command -v openssl >/dev/null || missing "openssl (for certificates) is missing"
mkdir -p "$target"
mvn --quiet --batch-mode --file "$here/pom.xml" dependency:copy-dependencies \
    -DoutputDirectory="$(cd "$target" && pwd)/libs" >&2 || missing "Maven could not get Apache Kafka"
touch "$target/complete"
