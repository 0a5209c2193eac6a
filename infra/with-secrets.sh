#!/bin/sh
# Every NAME_FILE that names a secret becomes NAME, with what that file holds; then the command runs.
set -eu
for name in $(env | sed -n 's/^\([A-Z0-9_]*\)_FILE=\/run\/secrets\/.*/\1/p'); do
    eval "path=\$${name}_FILE"
    value=$(cat "$path")
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"
