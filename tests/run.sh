#!/usr/bin/env bash
# Runs the whole suite: unit, integration and doc tests, with all features and with none, and the examples.
#
# Needs cargo and a C linker; curl for the last check, which is left out without it. From any directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$SECONDS
# One build from scratch; and rustc 1.95 trips over its own incremental state in tests/layer.rs.
export CARGO_INCREMENTAL=0

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

# The servers for the Redis tests; with WEIR_REDIS_ALL set, as in CI, none of them may be missing.
say "servers"
[ -z "${CI:-}" ] || export WEIR_REDIS_ALL=1
servers=$(tests/servers/install.sh) || fail "${servers:-no servers}; see above"
echo "$servers"

if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
command -v cargo >/dev/null || fail "cargo is missing; install Rust 1.88 or later with rustup (https://rustup.rs)"
if ! command -v cc >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing a C linker"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev
    else
        fail "a C linker (cc) is missing; on Debian: sudo apt-get install gcc libc6-dev"
    fi
fi

say "cargo test --all-features"
cargo test --all-features
printf '\n%s\n' "$servers"

say "cargo test --no-default-features --lib"
cargo test --no-default-features --lib

say "example embedded"
cargo run --quiet --profile test --no-default-features --example embedded

say "example suppressed (10 seconds)"
cargo run --quiet --profile test --all-features --example suppressed

say "example quickstart"
if command -v curl >/dev/null; then
    quickstart=$(cargo build --quiet --profile test --all-features --example quickstart --message-format=json |
        sed -n 's/.*"executable":"\([^"]*quickstart[^"]*\)".*/\1/p')
    output=$(mktemp)
    PORT=0 "$quickstart" >"$output" &
    server=$!
    trap 'kill "$server" 2>/dev/null || true; rm -f "$output"' EXIT

    url=
    for _ in $(seq 100); do
        url=$(sed -n 's/^Listening on \(http:[^ ]*\/\).*/\1/p' "$output")
        [ -z "$url" ] || break
        sleep 0.1
    done
    [ -n "$url" ] || fail "quickstart does not listen"
    get() { curl --silent --noproxy '*' --max-time 5 --output /dev/null --write-out "$1" "$url"; }
    codes=
    for _ in 1 2 3 4 5; do codes+="$(get '%{http_code}') "; done
    codes+=$(get '%{http_code} %header{retry-after}')
    echo "six requests: $codes (retry-after, where curl can tell)"
    case $codes in
    "200 200 200 200 200 429"*) ;;
    *) fail "expected five times 200, then 429" ;;
    esac
    kill "$server"
    wait "$server" 2>/dev/null || true
    trap - EXIT
    rm -f "$output"
else
    echo "left out: curl is missing"
fi

printf '\ntests/run.sh: everything passed in %s s\n' "$((SECONDS - began))"
