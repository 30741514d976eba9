#!/usr/bin/env bash
# Gets the server of the PostgreSQL tests into target/postgres. Says why where that cannot be: the tests that
# need it are then left out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}/postgres
version=17.5.0
[ -e "$target/complete" ] && exit 0
missing() {
    echo "$1: the tests of PostgreSQL tables are left out." >&2
    exit 0
}
case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) machine=amd64 sum=646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe ;;
    Linux-aarch64) machine=arm64v8 sum=e02f27ff50ff2d90b6541d54f3f108505aacd84ea53c2890e976a684bfea2752 ;;
    *) missing "no PostgreSQL is known for this machine" ;;
esac
for tool in mvn unzip tar xz sha256sum; do
    command -v "$tool" >/dev/null || missing "$tool is missing"
done
mkdir -p "$target"
artifact=embedded-postgres-binaries-linux-$machine
mvn --quiet --batch-mode org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact="io.zonky.test.postgres:$artifact:$version:jar" -DoutputDirectory="$target" >&2 \
    || missing "Maven could not get PostgreSQL"
jar=$target/$artifact-$version.jar
if ! echo "$sum  $jar" | sha256sum --check --quiet >&2; then
    echo "$jar is not what was expected: remove it, and look where it came from." >&2
    exit 1
fi
unzip -qp "$jar" '*.txz' | tar -xJ -C "$target"
touch "$target/complete"
