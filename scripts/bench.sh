#!/usr/bin/env bash
# Sets the machine up, builds, and runs the bench. Arguments go to it: see --help.
# On a machine without a GPU it runs the CPU reference over a quick suite.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh
exec target/release/bench "$@"
