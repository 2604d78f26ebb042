#!/bin/bash
# podman 4.3.1 (Debian 12: podman 4.3.1+ds1-8+deb12u1): `podman info` asks the package managers of the machine, one program
# after the other, which package the OCI runtime and conmon are of, to print the package's name. With the database of dpkg on
# a busy disk that is most of what the command costs: 0.25 s of processor time on a machine with 900 packages, for a question
# about storage. `podman ps`, `podman images` and `podman system df` ask nobody. A monitor that polls `podman info` therefore
# reads dpkg's file lists each time; where the store is, `podman --log-level debug ps` says as well.
#
# Expected from the name and from docker info: the engine's own state, no other program.
# Needs: Debian 12 (amd64) with apt and its package lists, strace, root (a store of its own in the temp folder).
set -euo pipefail
command -v strace > /dev/null || { echo "strace is needed"; exit 2; }
W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
cd "$W"
apt-get -qq download podman=4.3.1+ds1-8+deb12u1+b3 conmon=2.1.6+ds1-1 runc=1.1.5+ds1-1+deb12u1 2> /dev/null ||
    { echo "the pinned packages cannot be downloaded here"; exit 2; }
mkdir root; for deb in ./*.deb; do dpkg -x "$deb" root; done
P=$W/root/usr/bin/podman
"$P" --version
asked() { # programs that podman starts for a command, each once
    strace -f -qq -e trace=execve -e signal=none -o log "$P" --root "$W/store" --runroot "$W/run" \
        --conmon "$W/root/usr/bin/conmon" --runtime "$W/root/usr/sbin/runc" --storage-driver vfs "$@" > /dev/null 2>&1
    grep ' = 0$' log | sed -n 's/.*execve("\([^"]*\)".*/\1/p' | xargs -n1 basename | sort -u | tr '\n' ' '
}
info=$(asked info); images=$(asked images); ps=$(asked ps); df=$(asked system df)
echo "podman info starts:      $info"
echo "podman images starts:    $images"
echo "podman ps starts:        $ps"
echo "podman system df starts: $df"
case $info in *dpkg*) ;; *) echo "CHANGED: podman info does not ask dpkg"; exit 1 ;; esac
case "$images$ps$df" in *dpkg*) echo "CHANGED: others ask dpkg too"; exit 1 ;; esac
# Observed:
#   podman version 4.3.1
#   podman info starts:      conmon dpkg dpkg-query podman runc
#   podman images starts:    conmon podman
#   podman ps starts:        conmon podman
#   podman system df starts: conmon podman
