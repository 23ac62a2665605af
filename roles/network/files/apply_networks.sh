#!/bin/sh
# Has udev name the interfaces and networkd give them their addresses, as their files say by now.
set -eu

# The name that the aircraft's files have for an interface, or nothing. What udevd knows of one that
# it could not rename is out of date.
meant() {
    udevadm test-builtin net_setup_link "/sys/class/net/$1" 2>/dev/null |
        sed -n 's|^ID_NET_LINK_FILE=/etc/systemd/network/10-\(.*\)\.link$|\10|p'
}

# Who has the name of another makes room for it: a network has moved to another card, say.
for link in /etc/systemd/network/10-*.link; do
    name=${link#*/10-} name=${name%.link}0
    if [ -e "/sys/class/net/$name" ] && [ "$(meant "$name")" != "$name" ]; then
        ip link set dev "$name" down
        ip address flush dev "$name"
        ip link set dev "$name" name "was-$name"
    fi
done
udevadm control --reload
udevadm trigger --action=add --subsystem-match=net --settle
networkctl reload

for interface in /sys/class/net/*; do
    name=${interface##*/} meant=$(meant "$name")
    if [ -n "$meant" ] && [ "$meant" != "$name" ]; then
        echo "$name should be $meant, and udev did not rename it: see journalctl -u systemd-udevd" >&2
        exit 1
    fi
done
