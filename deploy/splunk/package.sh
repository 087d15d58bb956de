#!/usr/bin/env bash
# Packages the add-on: TA-auditwatch-VERSION.tar.gz, the same bytes for the same files. The one argument is the output
# folder, by default target/. Prints the path.
set -euo pipefail
cd "$(dirname "$0")"

app=TA-auditwatch
version=$(sed -n 's/^version = //p' "$app/default/app.conf" | sort -u)
if [ "$(wc -l <<<"$version")" -ne 1 ] || ! grep -q "\"version\": \"$version\"" "$app/app.manifest"; then
    echo "package.sh: app.conf and app.manifest name different versions" >&2
    exit 1
fi

out="${1:-../../target}"
mkdir -p "$out"
out=$(cd "$out" && pwd)
file="$out/$app-$version.tar.gz"

# The package does not depend on the checkout: order, owner, time, permissions, local settings.
tar --create --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime='2020-01-01 00:00:00Z' \
    --mode='u=rwX,go=rX' --exclude=local --exclude=local.meta --exclude='.*' "$app" |
    gzip -9 --no-name >"$file.part"
mv "$file.part" "$file"
echo "$file"
