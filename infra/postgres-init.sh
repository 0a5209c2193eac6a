#!/bin/sh
# Create roles and databases on a new PostgreSQL volume.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres <<SQL
CREATE ROLE mlflow LOGIN PASSWORD '$(cat /run/secrets/postgres_mlflow)';
CREATE ROLE prefect LOGIN PASSWORD '$(cat /run/secrets/postgres_prefect)';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
CREATE DATABASE prefect OWNER prefect;
REVOKE ALL ON DATABASE mlflow, mlflow_auth, prefect FROM PUBLIC;
SQL
