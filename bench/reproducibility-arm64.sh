#!/bin/sh
# The check of reproducibility.py on 64-bit Arm, which QEMU plays on another machine: the tiers
# there are plain C and NEON, and both have to give the hashes that are stored.
#
#     sudo sh bench/reproducibility-arm64.sh FOLDER
#
# Wants Debian or Ubuntu with debootstrap, qemu-user-static and binfmt-support, and root.  FOLDER
# becomes a Debian of half a gigabyte, and is used again if it is there.  The first time takes some
# minutes to fetch and many to compile.
set -eu
folder=${1:?"where to put the Debian: a folder"}
root=$folder/root
project=$(cd "$(dirname "$0")/.." && pwd)

if [ ! -e "$root/etc/debian_version" ]; then
    mkdir -p "$folder"
    debootstrap --arch=arm64 --variant=minbase \
        --include=python3,python3-venv,python3-dev,gcc,libc6-dev,ca-certificates bookworm "$root"
fi
# The host's way to the network.
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp -rL /etc/ssl/certs/. "$root/etc/ssl/certs/" 2>/dev/null || true

rm -rf "$root/fastbp"
mkdir "$root/fastbp"
(cd "$project" && git ls-files -z | xargs -0 cp --parents -t "$root/fastbp")
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 "$@"; }
[ -e "$root/env/bin/python" ] || inside python3 -m venv /env
inside /env/bin/pip install --quiet --disable-pip-version-check /fastbp
inside /env/bin/python -c 'import fastbp; fastbp.show_config()'
inside /env/bin/python /fastbp/bench/reproducibility.py
