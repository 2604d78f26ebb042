#!/bin/bash
# What no action of the program does, with the commands that the advice of each finding names.
set -euo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root

# growing: stop who writes.
for process in /proc/[0-9]*; do
    # What it has started may end by itself first.
    [ "$(readlink "$process/fd/1")" != /srv/grows/app.data ] || kill "${process#/proc/}" || :
done
# package-lock: end who holds it.
for process in /proc/[0-9]*; do
    [ "$(readlink "$process/fd/3")" != /var/lib/dpkg/lock-frontend ] || kill "${process#/proc/}"
done
# limit: raise it.
docker update --pids-limit 100 crowd >/dev/null
# images-foreign, volumes-unused: what nobody needs, by its name.
docker rmi elsewhere.example.com/app:1 >/dev/null
docker volume rm kept >/dev/null
# read-only: check the file system (1: errors were corrected).
umount /srv/broken
e2fsck -f -y /srv/image >/dev/null 2>&1 || [ $? = 1 ]
mount -o loop /srv/image /srv/broken
# not-seen: a server that never comes back.
umount --lazy /srv/dead
# build-context, dockerfile-no-cache.
echo node_modules >/srv/app/.dockerignore
printf 'FROM debian\nRUN --mount=type=cache,target=/var/cache/apt apt-get update && apt-get install -y curl\n' \
    >/srv/app/Dockerfile
# hidden-under-mount: look below without unmounting.
mkdir /run/below
mount --bind / /run/below
rm /run/below/srv/backup/written-while-not-mounted
umount /run/below
# logrotate-stopped: run it (1: one of the logs that it is told of is not there).
logrotate /etc/logrotate.conf 2>/dev/null || [ $? = 1 ]
# journal-large: what journald still writes to, which does not run here.
rm /var/log/journal/*/system.journal
