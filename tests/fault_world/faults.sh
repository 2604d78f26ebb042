#!/bin/bash
# One of each fault, on a machine made by root.sh. A dockerd runs.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DOCKER_BUILDKIT=1

mib() { head --bytes="$1M" /dev/zero; }
# Runs a program that outlives this script and has nothing of it open.
background() { setsid "$@" </dev/null >/dev/null 2>&1 & }

# context NAME MIB: a directory from which an image of busybox and so many MiB is made.
context() {
    mkdir -p "/root/$1"
    cp /usr/bin/busybox "/root/$1"
    printf 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox","dd","if=/dev/zero","of=/big","bs=1M","count=%d"]\n' "$2" \
        >"/root/$1/Dockerfile"
}
build() { docker build --quiet --network none --tag "registry.example.com/$1" "/root/$2" >/dev/null; }

docker_faults() {
    local name
    for name in 3 4 5; do context "context$name" "$name"; done
    # A container that ended, with much in its log and in its layer.
    build app:1 context3
    docker run --name chatty --network none registry.example.com/app:1 /bin/busybox sh -c \
        '/bin/busybox dd if=/dev/zero of=/written bs=1M count=2; /bin/busybox seq 300000' >/dev/null 2>&1
    # A name from elsewhere.
    docker tag registry.example.com/app:1 elsewhere.example.com/app:1
    # An image that lost its name to another one, which no container uses.
    build app:2 context4
    build app:2 context5
    # Build cache of an image that is gone.
    context context6 6
    build gone:1 context6
    docker rmi registry.example.com/gone:1 >/dev/null
    docker volume create kept >/dev/null
    mib 2 >/var/lib/docker/volumes/kept/_data/precious
    # A container that may not have one process more.
    docker run --detach --name crowd --network none registry.example.com/app:1 \
        /bin/busybox sh -c '/bin/busybox sleep 1000 & /bin/busybox sleep 1000 & wait' >/dev/null
    until [ "$(docker top crowd -o pid | wc -l)" = 4 ]; do sleep 0.05; done
    docker update --pids-limit 3 crowd >/dev/null
}

podman_faults() {
    context base 1
    podman build --quiet --isolation chroot --tag registry.example.com/base:1 /root/base >/dev/null
    # A build that was killed: its working container stays.
    buildah from --name working registry.example.com/base:1 >/dev/null
}

builds() {
    mkdir -p /srv/app/node_modules /srv/code
    # A large context, and a step that fetches packages anew each time.
    mib 2 >/srv/app/node_modules/big
    printf 'FROM debian\nRUN apt-get update && apt-get install -y curl\n' >/srv/app/Dockerfile
    # Two builds of one directory, started by somebody who is still there.
    cp "$(command -v sleep)" /opt/cargo
    (cd /srv/code && background sh -c '/opt/cargo 1000 & /opt/cargo 1000 & wait')
    # One whose build is gone.
    cp "$(command -v sleep)" /opt/pip
    background sh -c '/opt/pip 1000 &'
    # A lock of dpkg, taken as it does: fcntl(2).
    local word
    word=$(mktemp -u)
    mkfifo "$word"
    background perl -MFcntl -e '
        open(my $lock, ">", "/var/lib/dpkg/lock-frontend") or die;
        my $whole = pack("s s x4 l! l! i x4", F_WRLCK, 0, 0, 0, 0);
        fcntl($lock, F_SETLK, $whole) or die;
        open(my $word, ">", $ARGV[0]) or die;
        close($word);
        sleep 1000' "$word"
    timeout 20 cat "$word"
    rm "$word"
    # What buildx could not finish writing.
    mkdir -p /root/.docker/buildx/activity
    : >/root/.docker/buildx/activity/.tmp-default1
    # A mount that a build left.
    mkdir -p /srv/layer /srv/tmp/buildkit-mount1
    echo precious >/srv/layer/data
    mount --bind /srv/layer /srv/tmp/buildkit-mount1
}

space() {
    # Full.
    mkdir /srv/full
    mount -t tmpfs -o size=8m none /srv/full
    head --bytes=7900000 /dev/zero >/srv/full/file
    # Deleted and still open.
    mib 20 >/srv/gone
    background sh -c 'exec 7</srv/gone; rm /srv/gone; exec sleep 1000'
    # Hidden under a mount.
    mkdir /srv/backup
    mib 15 >/srv/backup/written-while-not-mounted
    mount -t tmpfs -o size=1m none /srv/backup
    # A cache that comes back by itself.
    mkdir -p /srv/code/target/debug
    printf 'Signature: 8a477f597d28d172789f06886806bc55\n# This file is a cache directory tag created by cargo.\n' \
        >/srv/code/target/CACHEDIR.TAG
    echo '{"rustc_fingerprint":1}' >/srv/code/target/.rustc_info.json
    mib 9 >/srv/code/target/debug/app
    # Read-only after an error, with the directory for temporary files on it.
    truncate --size=8M /srv/image
    mkfs.ext4 -q -F /srv/image
    mkdir /srv/broken
    mount -o loop,errors=remount-ro /srv/image /srv/broken
    mkdir /srv/broken/tmp
    sync --file-system /srv/broken
    local device
    device=$(findmnt --noheadings --output SOURCE --mountpoint /srv/broken)
    echo fault >"/sys/fs/ext4/${device#/dev/}/trigger_fs_error"
}

logs() {
    # An active journal and a closed one, by systemd's own program.
    local journal=/var/log/journal/3d1219c7c4c5404aaa1f6d2a48adfda4 name
    mkdir -p "$journal"
    for name in system system@3f3e60717aa441a798e98ff97a56a29b-0000000000000001-00060a24181e4001; do
        printf '__REALTIME_TIMESTAMP=1700000000000001\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=0123456789abcdef0123456789abcdef\nMESSAGE=hello\n\n' |
            /lib/systemd/systemd-journal-remote --output=/root/made.journal - 2>/dev/null
        mv /root/made.journal "$journal/$name.journal"
    done
    seq 600000 >/var/log/app.log
    background sh -c 'exec sleep 1000 7>>/var/log/app.log'
    mib 4 >/var/log/old.log.1
    printf '/var/log/old.log {\n    weekly\n}\n' >/etc/logrotate.conf
    echo 'logrotate state -- version 2' >/var/lib/logrotate/status
    touch --date='10 days ago' /var/lib/logrotate/status
}

entries() {
    (cd /var/tmp && seq --format='left-%g' 1000 | xargs touch)
    # As many as leave 15 % of the inodes.
    mkdir /srv/many
    local total free
    total=$(stat --file-system --format=%c /) free=$(stat --file-system --format=%d /)
    (cd /srv/many && seq --format='%g' $((free - total * 15 / 100)) | xargs touch)
}

grows() {
    mkdir /srv/grows
    mount -t tmpfs -o size=2g none /srv/grows
    # 4 MiB/s.
    background sh -c 'while head -c 200000 /dev/zero; do sleep 0.05; done >>/srv/grows/app.data'
}

docker_faults
podman_faults
builds
space
logs
entries
sync
grows
