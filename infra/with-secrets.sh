#!/bin/sh
# Replace every NAME_FILE that points to a secret by NAME with the file's content; then run the command.
set -eu
for name in $(env | sed -n 's/^\([A-Z0-9_]*\)_FILE=\/run\/secrets\/.*/\1/p'); do
    eval "path=\$${name}_FILE"
    value=$(cat "$path")
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"
