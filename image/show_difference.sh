#!/bin/sh
# Runs in the tools root: shows in what files in /one and /other differ, to the depth of the files
# in the root partition of a disk.
set -eu

extract() { # SIDE FILE
    sfdisk --json "/$1/$2" | python3 -c '
import json, sys
table = json.load(sys.stdin)["partitiontable"]
for partition in table["partitions"]:
    print(partition["start"] * table["sectorsize"], partition["size"] * table["sectorsize"],
          partition.get("name", "unnamed"))
' | while read -r start size name; do
        mkdir -p "/work/$1"
        dd if="/$1/$2" of="/work/$1/$name" bs=1M iflag=skip_bytes,count_bytes \
            skip="$start" count="$size" status=none
        if [ "$(dd if="/work/$1/$name" bs=1 skip=1024 count=4 status=none | od -An -tx1)" = \
            " e2 e1 f5 e0" ]; then
            fsck.erofs --extract="/work/$1/root" "/work/$1/$name" >/dev/null
            rm "/work/$1/$name"
        fi
    done
}

for name; do
    if [ "${name##*.}" = raw ]; then
        extract one "$name"
        extract other "$name"
        # Verity's hashes follow from the root's.
        rm -f /work/*/*_verity
        diffoscope --max-report-size=200000 /work/one /work/other || true
    else
        diffoscope --max-report-size=200000 "/one/$name" "/other/$name" || true
    fi
done
