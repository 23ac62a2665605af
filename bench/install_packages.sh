#!/bin/bash
# Installs Debian packages, those that are missing, and starts none of their services: the bench
# runs its own nginx, Redis and PostgreSQL, and leaves those of the machine alone.
#
#     install_packages.sh FILE...     each with names of packages, and remarks after #
set -euo pipefail

mapfile -t packages < <(sed 's/ *#.*//; /^$/d' "$@")
missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing: ${missing[*]}." >&2
        echo "Ask whoever has root rights to run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "Missing: ${missing[*]}. To install them, sudo may ask for your password."
    exec sudo -- "$0" "$@"
fi

# invoke-rc.d(8) asks this program before it starts a service; 101 means no.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

# Quietly, unless it fails.
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! {
    apt-get -o DPkg::Lock::Timeout=120 update &&
        apt-get -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends "${missing[@]}"
} </dev/null >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    echo "apt-get failed: the whole of what it said is in $log" >&2
    exit 1
fi
rm -f "$log"

# Not at the next boot either, those that were not here before; but chrony, which took the place of
# the one that told the time.
if [[ -d /run/systemd/system ]]; then
    for package in mosquitto nginx openssh-server postgresql redis-server; do
        if [[ " ${missing[*]} " == *" $package "* ]]; then
            systemctl disable --quiet "${package/openssh-server/ssh}"
        fi
    done
fi
