#!/bin/bash
# A small machine in namespaces of its own: its root is an ext4 file system on a loop device, which holds nothing but
# what it needs; /usr is the host's, read-only. Everything in the mount namespace is moved into it (pivot_root(2)).
#
#   root.sh DIRECTORY PROGRAM    an empty directory for the image; the program, which becomes /opt/unwedge
#
# What it mounts is gone with the mount namespace, and the loop devices with their mounts.
set -euo pipefail
dir=$1 program=$2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mount --make-rprivate /
truncate --size=1G "$dir/disk"
mkfs.ext4 -q -F -b 4096 -N 24000 "$dir/disk"
mkdir "$dir/root"
mount -o loop "$dir/disk" "$dir/root"
cd "$dir/root"

mkdir -p dev etc old opt proc root run srv sys tmp usr var/lib/dpkg var/lib/logrotate var/log var/tmp
chmod 1777 tmp var/tmp
ln -s /run var/run
for link in bin lib lib32 lib64 libx32 sbin; do
    [ ! -L "/$link" ] || cp -P "/$link" .
done
for name in alternatives containers ld.so.cache login.defs mke2fs.conf nsswitch.conf; do
    [ ! -e "/etc/$name" ] || cp -a "/etc/$name" etc
done
# Engines and logs of the host are none of this machine's business.
rm -f etc/containers/storage.conf
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >etc/group
echo world >etc/hostname
echo 3d1219c7c4c5404aaa1f6d2a48adfda4 >etc/machine-id
cp "$program" opt/unwedge

mount --bind /usr usr
mount -o remount,bind,ro usr
mount --rbind /dev dev
mount -t tmpfs -o size=64m none dev/shm
mount --rbind /sys sys
mount -t proc proc proc
mount -t tmpfs -o size=64m,mode=755 none run
pivot_root . old
umount --lazy /old
rmdir /old
