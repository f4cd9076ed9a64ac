# shellcheck shell=bash
# Sourced by the scripts beside it: finds a Python, installs what is missing, makes the virtual
# environment. Defines functions and three variables (ROOT, VENV, PYTHON); runs nothing by itself.
#
#   ZFUSE_VENV     the virtual environment to use (default: .venv in the checkout)
#   ZFUSE_PYTHON   the Python to make it with (default: the newest that is found)

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${ZFUSE_VENV:-$ROOT/.venv}
PYTHON=$VENV/bin/python

say() { printf '%s\n' "$*" >&2; }

die() { # die STATUS MESSAGE...: one line that says what to do, then exit
    local status=$1
    shift
    say "${0##*/}: $*"
    exit "$status"
}

quietly() { # quietly COMMAND...: show its output only when it fails
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" -eq 0 ] || tail -n 40 "$log" >&2
    rm -f "$log"
    return "$status"
}

# --- system packages ---------------------------------------------------------------------------

can_apt() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

apt_install() { # apt_install PACKAGE...: needs can_apt
    say "installing $* (apt-get)"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get install -y --no-install-recommends "$@" ||
        { quietly apt-get update && quietly apt-get install -y --no-install-recommends "$@"; }
}

need_packages() { # need_packages PACKAGE...: install them, or name them and stop
    [ $# -gt 0 ] || return 0
    can_apt || die 2 "missing system packages; run: sudo apt-get install $*"
    apt_install "$@" || die 1 "apt-get could not install: $*"
}

# --- Python ------------------------------------------------------------------------------------

is_recent() { # is_recent COMMAND: does it run, and is it Python >= 3.12? (pyenv's shims may fail)
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 </dev/null
}

pyenv_pythons() { # newest first
    local root=${PYENV_ROOT:-$HOME/.pyenv}
    printf '%s\n' "$root"/versions/*/bin/python | sort -rV
}

find_installed_python() {
    local candidate
    for candidate in ${ZFUSE_PYTHON:-} python3.14 python3.13 python3.12 python3; do
        if is_recent "$candidate"; then command -v "$candidate" && return 0; fi
    done
    while read -r candidate; do
        if is_recent "$candidate"; then echo "$candidate" && return 0; fi
    done < <(pyenv_pythons)
    return 1
}

install_python() { # from the distribution where it has one, else with uv
    local version
    if can_apt; then
        quietly apt-get update || true
        for version in 3.14 3.13 3.12; do
            apt-cache show "python$version-venv" >/dev/null 2>&1 || continue
            apt_install "python$version" "python$version-venv" "python$version-dev" && return 0
        done
    fi
    command -v uv >/dev/null || return 1
    say "installing Python 3.13 (uv)"
    quietly uv python install 3.13
}

find_python() { # prints the path of a Python >= 3.12
    find_installed_python && return 0
    install_python || true
    find_installed_python && return 0
    if command -v uv >/dev/null && uv python find '>=3.12' 2>/dev/null; then return 0; fi
    die 2 "no Python >= 3.12: install python3.12 or newer, or uv (then run this again)"
}

python_packages() { # python_packages PYTHON: Debian packages that this Python lacks
    "$1" - <<'PY'
import importlib.util, pathlib, sys, sysconfig
name = f"python{sys.version_info.major}.{sys.version_info.minor}"
if importlib.util.find_spec("ensurepip") is None:
    print(f"{name}-venv")
if not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists():
    print(f"{name}-dev")
PY
}

build_packages() { # Debian packages that compiling pyfuse3 lacks
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
}

make_venv() {
    local base
    base=$(find_python)
    # shellcheck disable=SC2046 # one package a word
    need_packages $(python_packages "$base") $(build_packages)
    say "making $VENV with $("$base" --version) ($base)"
    quietly "$base" -m venv --clear "$VENV" || die 1 "$base -m venv $VENV failed"
}

stamp() { # what an installed environment depends on
    echo "$ROOT"
    sha256sum <"$ROOT/pyproject.toml"
}

is_installed() { # is_installed EXTRA...: is the environment there and up to date?
    local extra
    is_recent "$PYTHON" || return 1
    for extra in "$@"; do
        [ "$(cat "$VENV/.zfuse-$extra" 2>/dev/null)" = "$(stamp)" ] || return 1
    done
}

# ensure_venv EXTRA...: a virtual environment with zfuse (editable) and these extras
# Quick when pyproject.toml has not changed since the last time.
ensure_venv() {
    local extras extra
    if is_installed "$@"; then return 0; fi
    extras=$(IFS=, && echo "$*")
    is_recent "$PYTHON" || make_venv
    if ! "$PYTHON" -c 'import pyfuse3' 2>/dev/null; then
        # shellcheck disable=SC2046
        need_packages $(python_packages "$PYTHON") $(build_packages)
    fi
    say "installing zfuse[$extras] into $VENV"
    quietly "$PYTHON" -m pip install --disable-pip-version-check -e "${ROOT}[$extras]" ||
        die 1 "pip could not install zfuse[$extras]; the lines above say why"
    for extra in "$@"; do stamp >"$VENV/.zfuse-$extra"; done
}

# --- FUSE --------------------------------------------------------------------------------------

need_fuse() {
    [ -c /dev/fuse ] ||
        die 2 "no /dev/fuse here: load the module (modprobe fuse), or start the container with" \
            "--device /dev/fuse --cap-add SYS_ADMIN"
    command -v fusermount3 >/dev/null || need_packages fuse3
    # Where the kernel's knobs of each mount are; systemd mounts it, containers often lack it.
    if [ "$(id -u)" -eq 0 ] && ! mountpoint -q /sys/fs/fuse/connections; then
        mount -t fusectl fusectl /sys/fs/fuse/connections 2>/dev/null || true
    fi
}

zfuse_mounts_below() { # zfuse_mounts_below DIR: device and mount point, the newest first
    awk -v dir="$1/" '$0 ~ / - fuse\.zfuse / && index($5, dir) == 1 { print $3, $5 }' \
        /proc/self/mountinfo | tac
}

# clear_mounts_below DIR: unmount every zfuse mount that was left there, a hung one too
clear_mounts_below() {
    local device path
    while read -r device path; do
        say "left mounted: $path"
        echo 1 2>/dev/null >"/sys/fs/fuse/connections/${device#*:}/abort" || true
        timeout 10 fusermount3 -uz "$(printf '%b' "${path//\\/\\0}")" || true
    done < <(zfuse_mounts_below "$1")
}
