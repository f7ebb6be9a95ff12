#!/usr/bin/env bash
# The alert rules are tested by promtool, and a watched job is scraped by a real Prometheus; pip can give neither. Both are taken out
# of Debian's package `prometheus` into .cache/bin: nothing is installed and no service starts. Anywhere else those tests say that
# they were skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
for tool in promtool prometheus; do
  command -v "$tool" >/dev/null || [[ -x .cache/bin/$tool ]] || missing=1
done
[[ -z "${missing:-}" ]] && exit 0
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  {
    [[ $(id -u) != 0 ]] || apt-get update -qq
    (cd "$work" && apt-get download prometheus && dpkg-deb -x prometheus_*.deb unpacked)
    mkdir -p .cache/bin && mv "$work"/unpacked/usr/bin/prom{tool,etheus} .cache/bin/
  } >/dev/null 2>&1 && exit 0
fi
echo "no promtool, no Prometheus here: the tests with them will be skipped (Debian, Ubuntu: apt-get install prometheus)"
