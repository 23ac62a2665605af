#!/bin/sh
# Runs a command with another folder as its root, in a mount namespace of its own (unshare(1)).
#
#     enter.sh ROOT [SOURCE:TARGET]... -- COMMAND...     TARGET as it is called inside
set -eu

root=$1
shift
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
    source=${1%%:*}
    target=$root${1#*:}
    if [ -d "$source" ]; then mkdir -p "$target"; else mkdir -p "${target%/*}" && touch "$target"; fi
    mount --bind "$source" "$target"
    shift
done
shift

mkdir "$root/run/host"
cd "$root"
pivot_root . run/host
umount --lazy /run/host
exec "$@"
