#!/usr/bin/env bash
# Leaves dist/: the bench and the GPU tests as programs with the PTX inside, and run-tests.sh. It runs
# on any x86-64 Linux with an NVIDIA driver, without Rust and without a CUDA toolkit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

rm -rf dist
mkdir dist
# A moved binary finds its PTX inside itself; debug information would only make it large.
pack() { strip -o "dist/$2" "$1" && chmod +x "dist/$2"; }

pack target/release/bench bench
# Crates whose tests/gpu.rs needs a GPU.
for crate in cust sparseflow device_tests; do
    test=$(cargo test --release --package "$crate" --test gpu --no-run --message-format=json |
        python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable"):
        print(message["executable"])')
    pack "$test" "gpu-tests-$crate"
done

cat >dist/run-tests.sh <<'EOF'
#!/usr/bin/env bash
# Runs every GPU test. Arguments go to the test programs, e.g. a part of a test's name.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
for test in ./gpu-tests-*; do
    "$test" --include-ignored --skip of_over_two_billion_elements "$@"
done
# They take tens of gigabytes each.
./gpu-tests-sparseflow --ignored --test-threads 1 of_over_two_billion_elements
EOF
chmod +x dist/run-tests.sh
ls -l dist
