#!/bin/bash
# The replica's command: copy the primary if there is no copy yet, then follow it.
set -euo pipefail

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    until pg_basebackup --host primary --username replicator --pgdata "$PGDATA" \
        --write-recovery-conf --wal-method stream --checkpoint fast; do
        echo "waiting for the primary"
        rm -rf "${PGDATA:?}"/*
        sleep 1
    done
fi
chmod 0700 "$PGDATA"
exec postgres
