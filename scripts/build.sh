#!/usr/bin/env bash
# Builds the workspace in release mode, after setup.sh. Arguments go to cargo.
# The device code is left in target/ptx/{sm_80,sm_90a}.ptx.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
# Where setup.sh has put rustup, if it had to.
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

ptx=(target/ptx/sm_80.ptx target/ptx/sm_90a.ptx)
for file in "${ptx[@]}"; do
    # The PTX was deleted, or never made: without this, cargo may see nothing new to do.
    [[ -s $file ]] || touch host/build.rs
done

cargo build --release --workspace "$@"

for file in "${ptx[@]}"; do
    [[ -s $file ]] || {
        echo "build: $file is missing" >&2
        exit 1
    }
done
