#!/bin/sh
# Runs in the tools root: installs the project and what it needs into /opt/ife, and compiles it.
# What would differ from build to build does not stay: paths and times that uv notes for itself.
set -eu

uv build --quiet --wheel --no-build-isolation --python=/usr/bin/python3 --out-dir=/tmp/wheel /src
uv venv --quiet --allow-existing --python=/usr/bin/python3 --no-project /opt/ife
install="uv pip install --quiet --python=/opt/ife --no-deps --link-mode=copy"
$install --require-hashes --only-binary=:all: --requirements=/requirements.txt
$install --no-index /tmp/wheel/*.whl
rm -f /opt/ife/.lock /opt/ife/.gitignore /opt/ife/CACHEDIR.TAG
find /opt/ife -name '*.dist-info' -type d | while read -r folder; do
    rm -f "$folder/direct_url.json" "$folder/uv_cache.json" "$folder/uv_build.json" "$folder/REQUESTED"
    sed -i -E '/dist-info\/(direct_url|uv_cache|uv_build)\.json,|dist-info\/REQUESTED,/d' "$folder/RECORD"
done
# At each start of Python it would do what an environment variable says.
rm /opt/ife/lib/python3*/site-packages/manhole.pth
# Whom an aircraft trusts it is told: of what httpx brings along for the internet it needs nothing.
truncate --size=0 /opt/ife/lib/python3*/site-packages/certifi/cacert.pem
sed -i '/^certifi\/cacert\.pem,/d' /opt/ife/lib/python3*/site-packages/certifi-*.dist-info/RECORD
/opt/ife/bin/python -m compileall -q -f --invalidation-mode=unchecked-hash /opt/ife/lib
