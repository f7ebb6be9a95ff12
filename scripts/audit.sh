#!/usr/bin/env bash
# Known vulnerabilities of what is locked and pinned. Exit code 0: none is known; 1: some are; 3: nobody could be asked, which is no good news.
#   packages: pip-audit, asking PyPI, then OSV (https://osv.dev); every package must have been asked about
#   jars and packages: osv-scanner over the SBOM, where that program is installed
set -uo pipefail
cd "$(dirname "$0")/.."
audit=(.venv/bin/uv tool run --from "pip-audit==${PIP_AUDIT_VERSION}" pip-audit --strict --no-deps --disable-pip --progress-spinner off -r)
# Without hashes and markers: what pip-audit asks about is names and versions.
locked=$(mktemp); trap 'rm -f "$locked"' EXIT
sed -nE 's/^([A-Za-z0-9._-]+==[^ ;\\]+).*/\1/p' requirements.lock > "$locked"

result=3
for service in pypi osv; do
  if said=$("${audit[@]}" "$locked" --vulnerability-service "$service" 2>&1); then result=0; break; fi
  if grep -q "^Found .* known vulnerabilit" <<< "$said"; then result=1; break; fi
  echo "packages: $service cannot be asked here: $(tail -1 <<< "$said" | cut -c1-200)" >&2
done
case $result in
  0) echo "packages: no known vulnerability in $(wc -l < "$locked") packages (asked: $service)" ;;
  1) echo "$said" ;;
  3) echo "packages: NOT AUDITED: neither PyPI's advisories nor OSV can be reached from here" >&2 ;;
esac

if command -v osv-scanner > /dev/null; then
  osv-scanner scan --sbom build/sbom.json || result=$(( result == 0 ? 1 : result ))
else
  echo "jars: NOT AUDITED: pip-audit knows packages alone; with osv-scanner on PATH the jars of build/sbom.json are asked about as well" >&2
  [ $result != 0 ] || result=3
fi
exit $result
