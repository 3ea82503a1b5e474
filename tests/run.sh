#!/usr/bin/env bash
# Runs the whole suite: unit, integration and doc tests, with all features and with none, other people's clients,
# and the examples. From any directory. With --fast, it runs only tests that need no server and no other program.
#
# Needs cargo. What else is missing (a C linker, curl, valgrind, Chromium, Python with grpcio) is installed: system
# packages by root with apt-get, grpcio below the target directory. What cannot be had is left out, loudly; with CI set
# it is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
began=$SECONDS
# One build from scratch; and rustc 1.95 trips over its own incremental state in tests/http/layer.rs.
export CARGO_INCREMENTAL=0

# Prints a heading, with the seconds since the begin.
say() { printf '\n== %s (at %s s)\n' "$*" "$((SECONDS - began))"; }
fail() {
    printf 'tests/run.sh: %s\n' "$*" >&2
    exit 1
}

case ${1:-} in
"") ;;
--fast) fast=1 ;;
*) fail "unknown option $1; the only one is --fast" ;;
esac

if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
command -v cargo >/dev/null || fail "cargo is missing; install Rust 1.88 or later with rustup (https://rustup.rs)"

if [ -n "${fast:-}" ]; then
    # What needs no Redis also runs where the servers' harness does not compile.
    features=(--all-features)
    [ "${OS:-}" != Windows_NT ] || { features=(--features admin,axum,metrics,serde,tonic,tracing) && redis=no; }
    # Each name is a group of tests that starts servers, or that takes long: the full tier runs them.
    slow=(alloc::hybrid engine::tests::quality gateway::gateways_share lease::sim::liveness
        lease::sim::safety::no_window lease::sim::twins observability::
        playground::changed_limits playground::instances_share playground::redis_ends
        redis::transport::tests::cluster redis::transport::tests::faults redis::transport::tests::runtimes
        redis::transport::tests::smol script::tests)
    suites=(--lib --test architecture --test engine --test examples --test fuzz --test guide --test http --test process)
    say "cargo test ${features[*]} ${suites[*]}"
    cargo test "${features[@]}" "${suites[@]}" --no-run
    # Otherwise the tests of the examples build them.
    cargo build --profile test "${features[@]}" --examples
    built=$SECONDS
    cargo test "${features[@]}" "${suites[@]}" -- "${slow[@]/#/--skip=}"
    if [ "${redis:-}" != no ]; then
        say "the programs of the README"
        output=$(cargo test "${features[@]}" --doc Readme 2>&1) || fail "$output"
        grep 'ok\. [1-9][0-9]* passed' <<<"$output" || fail "no program of the README ran"
    fi
    printf '\ntests/run.sh: built in %s s, tested in %s s\n' "$((built - began))" "$((SECONDS - built))"
    printf 'tests/run.sh: the fast tier passed\n'
    exit
fi

# The servers for the Redis tests; with WEIR_REDIS_ALL set, as in CI, none of them may be missing.
say "servers"
[ -z "${CI:-}" ] || export WEIR_REDIS_ALL=1
servers=$(tests/support/servers/install.sh) || fail "${servers:-no servers}; see above"
echo "$servers"

# Installs Debian packages, where that is possible.
packages() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $*"
    # The run level keeps a package from starting a server of its own.
    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}
skipped=()
# What was not tested, and why. It must be seen: again at the end, and in CI it is a failure.
skip() {
    [ -z "${CI:-}" ] || fail "$*; and with CI set nothing may be left out"
    printf '\n!! SKIPPED: %s\n' "$*"
    skipped+=("$*")
}

command -v cc >/dev/null || packages gcc libc6-dev ||
    fail "a C linker (cc) is missing; on Debian: sudo apt-get install gcc libc6-dev"
command -v curl >/dev/null || packages curl || true

say "cargo test --all-features"
cargo test --all-features
printf '\n%s\n' "$servers"

say "cargo test --no-default-features --lib"
cargo test --no-default-features --lib

# What a call says outside a runtime can only be seen where smol, which is always there, is not compiled in.
say "cargo test --no-default-features --features redis-tokio, where no runtime is"
cargo test --no-default-features --features redis-tokio --lib --test redis -- runtime

# The clients that are programs: each test runs where its program is, or can be installed.
# A filter that matches nothing passes, so a moved or renamed test would go missing unnoticed.
ignored_tests() {
    local suite=$1 filter=$2 output
    output=$(cargo test --quiet --all-features --test "$suite" -- --ignored "$filter" 2>&1) ||
        fail "$output"
    printf '%s\n' "$output"
    grep -q 'ok\. [1-9][0-9]* passed' <<<"$output" || fail "no ignored test of $suite is named $filter"
}
client_test() { ignored_tests clients "usual_clients::$1"; }

# Sets GRPCIO_PYTHON to a Python that has what tests/clients/grpcio/requirements.txt names, installed once for each set of
# versions.
install_grpcio() {
    local wanted=tests/clients/grpcio/requirements.txt venv
    venv=${CARGO_TARGET_DIR:-target}/grpcio-$(cksum <"$wanted" | cut -d ' ' -f 1)
    if [ ! -e "$venv/ready" ]; then
        command -v python3 >/dev/null || packages python3 python3-venv || return 1
        rm -rf "$venv"
        python3 -m venv "$venv" || { packages python3-venv && python3 -m venv --clear "$venv"; } || return 1
        "$venv/bin/python" -m pip install --quiet --only-binary :all: --requirement "$wanted" || return 1
        touch "$venv/ready"
    fi
    export GRPCIO_PYTHON=$venv/bin/python
}

other_clients() {
    say "client curl"
    if command -v curl >/dev/null; then
        curl --version | head -n 1
        client_test curl_retries_when_it_is_told_to
    else
        skip "curl --retry, because curl is missing"
    fi

    say "client grpcio (Python)"
    if install_grpcio; then
        "$GRPCIO_PYTHON" -c 'import grpc, sys; print("grpcio", grpc.__version__, "on Python", sys.version.split()[0])'
        client_test grpcio_reads_what_a_tonic_client_reads
    else
        skip "grpcio, because Python or its packages could not be installed (is there a network?)"
    fi
}
other_clients

for client in curl node python3; do
    say "uploads by $client"
    if command -v "$client" >/dev/null || packages "${client/%node/nodejs}"; then
        ignored_tests http "uploads::${client%3}"
    else
        skip "uploads by $client, because it is missing"
    fi
done

for proxy in nginx haproxy; do
    say "proxy $proxy"
    PATH=$PATH:/usr/sbin command -v "$proxy" >/dev/null || packages "$proxy" || true
    if PATH=$PATH:/usr/sbin command -v "$proxy" >/dev/null; then
        ignored_tests clients "$proxy"
    else
        skip "the tests behind $proxy, because it is missing"
    fi
done

say "pages in Chromium"
if { command -v chromium && command -v chromedriver; } >/dev/null || packages chromium chromium-driver; then
    chromium --version | head -n 1
    # An empty filter: all tests of this suite need the browser.
    ignored_tests browser ""
else
    skip "the pages in a browser, because Chromium or its driver could not be installed"
fi

say "example embedded"
cargo run --quiet --profile test --no-default-features --example embedded

# A program that uses the crate can be run under tools like valgrind.
say "the first decision under valgrind"
if command -v valgrind >/dev/null || packages valgrind libc6-dbg; then
    program=$(cargo test --quiet --no-default-features --test engine --no-run --message-format=json |
        sed -n 's/.*"executable":"\([^"]*\/engine-[^"]*\)".*/\1/p')
    output=$(valgrind --quiet --error-exitcode=1 "$program" --exact time::the_first_decision_reads_the_clock) ||
        fail "$output"
    grep -q 'ok\. 1 passed' <<<"$output" || fail "the test of the first decision is missing"
else
    skip "a decision under valgrind, because valgrind could not be installed"
fi

say "example suppressed (10 seconds)"
cargo run --quiet --profile test --all-features --example suppressed

# Starts an example, and sets `server` to its process and `url` to what it listens on.
trap '[ -z "${server:-}" ] || kill "$server" 2>/dev/null || true' EXIT
start_example() {
    local program output
    program=$(cargo build --quiet --profile test --all-features --example "$1" --message-format=json |
        sed -n "s/.*\"executable\":\"\([^\"]*$1[^\"]*\)\".*/\1/p")
    output=$(mktemp)
    PORT=0 "$program" >"$output" &
    server=$!
    url=
    for _ in $(seq 100); do
        url=$(sed -n 's/^Listening on \(http:[^ ]*\/\).*/\1/p' "$output")
        [ -z "$url" ] || break
        sleep 0.1
    done
    rm -f "$output"
    [ -n "$url" ] || fail "$1 does not listen"
}
stop_example() {
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
}
get() { curl --silent --noproxy '*' --max-time 5 --output /dev/null --write-out "$1" "$url"; }

if command -v curl >/dev/null; then
    say "example quickstart"
    start_example quickstart
    codes=
    for _ in 1 2 3 4 5; do codes+="$(get '%{http_code}') "; done
    codes+=$(get '%{http_code} %header{retry-after}')
    echo "six requests: $codes (retry-after, where curl can tell)"
    case $codes in
    "200 200 200 200 200 429"*) ;;
    *) fail "expected five times 200, then 429" ;;
    esac
    stop_example

    say "example axum_redis, with no Redis where it looks"
    REDIS_URL=redis://127.0.0.1:1 start_example axum_redis
    codes=
    for _ in $(seq 12); do codes+="$(get '%{http_code}') "; done
    echo "twelve requests: $codes"
    [ "$codes" = "200 200 200 200 200 200 200 200 200 200 429 429 " ] || fail "expected ten times 200, then 429"
    stop_example

    say "example axum_hybrid, with no Redis where it looks"
    REDIS_URL=redis://127.0.0.1:1 start_example axum_hybrid
    codes=$(for _ in $(seq 1020); do printf 'url = "%s"\noutput = /dev/null\n' "$url"; done |
        curl --silent --noproxy '*' --max-time 30 --write-out '%{http_code}\n' --config - | sort | uniq -c | xargs)
    echo "1020 requests: $codes"
    [ "$codes" = "1000 200 20 429" ] || fail "expected a thousand times 200, then 429"
    stop_example

    say "example one_port, and the client of example tonic"
    client=(cargo run --quiet --profile test --all-features --example tonic -- client)
    cargo build --quiet --profile test --all-features --example tonic
    start_example one_port
    codes=
    for _ in 1 2 3; do codes+="$(get '%{http_code}') "; done
    port=${url##*:}
    calls=$(PORT=${port%/} "${client[@]}")
    codes+=$(get '%{http_code}')
    printf 'three requests, then calls, then a request: %s\n%s\n' "$codes" "$calls"
    [ "$codes" = "200 200 200 429" ] || fail "expected three times 200, then 429"
    [ "$(grep -c ': ok' <<<"$calls") $(grep -c ': ResourceExhausted' <<<"$calls")" = "2 5" ] ||
        fail "expected two calls of seven to be admitted"
    stop_example
else
    skip "the examples quickstart, axum_redis, axum_hybrid and one_port, because curl is missing"
fi

printf '\n'
for what in ${skipped[@]+"${skipped[@]}"}; do printf '!! SKIPPED: %s\n' "$what"; done
printf 'tests/run.sh: everything %spassed in %s s\n' "${skipped:+else }" "$((SECONDS - began))"
