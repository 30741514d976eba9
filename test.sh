#!/usr/bin/env bash
# Sets up what the tests need and runs all of them.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it with rustup (https://rustup.rs), then run this again." >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    echo "A C compiler is missing (SQLite, zstd and librdkafka are built from source): install gcc or clang, then run this again." >&2
    exit 1
fi
for tool in make perl; do
    if ! command -v "$tool" >/dev/null; then
        echo "$tool is missing (librdkafka and OpenSSL are built with it): install it, then run this again." >&2
        exit 1
    fi
done
# The tests start servers and stop them by themselves.
connectors/tests/kafka/get.sh
tests/static_tables/get.sh
exec cargo test --workspace --locked "$@"
