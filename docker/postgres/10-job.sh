#!/usr/bin/env bash
# Runs once, when the database is made: a role for the job that is no superuser and owns nothing but its own schema.
# What it may: connect, make temporary tables (each batch is copied into one), and keep its table in its schema.
# What it may not: read or write anything else, make roles or databases, run programs of the server (COPY … PROGRAM).
set -euo pipefail
: "${JOB_PASSWORD:?a password for the role of the job}"

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$JOB_PASSWORD" --set database="$POSTGRES_DB" <<'SQL'
CREATE ROLE job LOGIN PASSWORD :'password' NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE :"database" TO job;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA scoring AUTHORIZATION job;
ALTER ROLE job IN DATABASE :"database" SET search_path = scoring;
ALTER ROLE job IN DATABASE :"database" SET idle_in_transaction_session_timeout = '5min';
SQL
