#!/bin/sh
# Create the secrets of compose.yaml, once: sh infra/compose-secrets.sh
# Containers run as other users, so the files are readable by all, in a folder that only you can enter.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .bertline/secrets
chmod 700 .bertline/secrets
cd .bertline/secrets
new() {
    test -e "$1" || { cat >"$1.new" && chmod 444 "$1.new" && mv "$1.new" "$1"; }
}
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
for name in postgres postgres_mlflow postgres_prefect mlflow_admin mlflow_flask mlflow_kek store_key; do
    random | new "$name"
done
printf 'bertline:%s' "$(random)" | new prefect_auth
new store_identities <<JSON
{"identities": [{"name": "bertline", "actions": ["Admin", "Read", "List", "Tagging", "Write"],
  "credentials": [{"accessKey": "bertline", "secretKey": "$(cat store_key)"}]}]}
JSON
