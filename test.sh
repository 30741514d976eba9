#!/usr/bin/env bash
# Sets up what the tests need and runs all of them.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it with rustup (https://rustup.rs), then run this again." >&2
    exit 1
fi
if ! command -v cc >/dev/null; then
    echo "A C compiler is missing (SQLite and zstd are built from source): install gcc or clang, then run this again." >&2
    exit 1
fi
exec cargo test --workspace --locked "$@"
