#!/bin/bash
# Run once by the postgres image, when the primary's data directory is new.
set -euo pipefail

psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
    --command "CREATE ROLE replicator REPLICATION LOGIN PASSWORD 'replicator'"
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"
