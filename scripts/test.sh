#!/usr/bin/env bash
# Sets the machine up and runs all checks: formatting, lints, every test, the PTX through ptxas, and a
# quick bench on the CPU whose JSON is checked. With a GPU, the GPU tests run too; without one they are
# reported as ignored. Arguments go to the test runner.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/setup.sh
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
step() { printf '\n== %s\n' "$*"; }

step formatting
cargo fmt --all --check
cargo fmt --manifest-path gpu/Cargo.toml --all --check

step lints
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --manifest-path gpu/Cargo.toml --package layout --package cuda_std_macros \
    --target-dir target/gpu-host --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

step "tests of the device crates' host side"
cargo test --manifest-path gpu/Cargo.toml --package layout --package cuda_std_macros \
    --target-dir target/gpu-host

step tests
cargo test --workspace "$@"

if [[ -e /dev/nvidia0 ]]; then
    step "GPU tests"
    cargo test --release --package cust --package sparseflow --test gpu -- --ignored
else
    echo "no GPU here: the tests above that need one were ignored"
fi

step "PTX through ptxas"
scripts/check-ptx.sh

step "quick bench on the CPU"
report=$(mktemp)
trap 'rm -f "$report"' EXIT
cargo run --release --quiet --bin bench -- --backend cpu --suite quick --json "$report"
python3 - "$report" <<'EOF'
import json, sys

report = json.load(open(sys.argv[1]))
rows = report["rows"]
assert report["schema_version"] == 1 and report["environment"]["cpu"], report["environment"]
assert {row["op"] for row in rows} >= {"dense", "sparse"}, "an operation is missing"
for row in rows:
    assert row["check"]["passed"] is True, row
    assert row["time_us"]["median"] > 0 and row["samples_us"], row
print(f"{len(rows)} rows, all checked")
EOF
