#!/usr/bin/env bash
# Sets the machine up and runs all checks: formatting, lints, every test, the PTX through ptxas, and quick
# benches on CPU and emulator whose JSON is checked. The kernel tests run on the GPU if there is one, else
# on the emulator; tests that need a GPU for its driver or its memory are then reported as ignored.
# Arguments go to the test runner.
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
    cargo test --release --package cust --package sparseflow --package device_tests --test gpu \
        -- --include-ignored --skip of_over_two_billion_elements
    # They take tens of gigabytes each.
    cargo test --release --package sparseflow --test gpu \
        -- --ignored --test-threads 1 of_over_two_billion_elements
else
    echo "no GPU here: kernels were tested on the emulator, what needs a driver was ignored"
fi

step "PTX through ptxas"
scripts/check-ptx.sh

step "quick benches"
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
for backend in cpu emulator; do
    cargo run --release --quiet --bin bench -- --backend "$backend" --suite quick \
        --op dense,sparse,compress --json "$reports/$backend.json"
done
python3 - "$reports" <<'EOF'
import json, sys

for backend in ("cpu", "emulator"):
    report = json.load(open(f"{sys.argv[1]}/{backend}.json"))
    rows = report["rows"]
    assert report["schema_version"] == 1 and report["environment"]["cpu"], report["environment"]
    assert {row["op"] for row in rows} == {"dense", "sparse", "compress"}, "an operation is missing"
    for row in rows:
        assert row["check"]["passed"] is True and row["backend"] == backend, row
        if backend == "cpu":
            assert row["time_us"]["median"] > 0 and row["samples_us"], row
        else:
            assert row["emulator"]["warp_instructions"] > 0 and row["time_us"] is None, row
    print(f"{backend}: {len(rows)} rows, all checked")
EOF
