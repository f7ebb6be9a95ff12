"""The parts of this installation as CycloneDX: the packages of .venv as cyclonedx-py lists them, and the pinned jars with their hashes.

Run by `make sbom`: python scripts/sbom.py PACKAGES.json OUT.json
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from streaming.runtime import jars


def main(packages: Path, out: Path) -> None:
    """Add the jars to the document of the packages."""
    document = json.loads(packages.read_text(encoding="utf-8"))
    resolved = jars.resolve_all()
    pinned = jars.pins(jars.conf_file("jars.sha256"))
    paths = {path.name: path for conf in resolved.values() for path in conf}
    document["components"] += [component(paths[name], pinned[name]) for name in sorted(paths)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=1, sort_keys=True), encoding="utf-8")
    sys.stdout.write(f"{out}: {len(document['components'])} components, {len(paths)} of them jars\n")


def component(jar: Path, sha256: str) -> dict[str, Any]:
    """One jar, under its Maven coordinates where it says them."""
    group, name, version = coordinates(jar)
    purl = f"pkg:maven/{group}/{name}@{version}?type=jar" if group else f"pkg:generic/{jar.name}?checksum=sha256:{sha256}"
    made = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**made, **({"group": group} if group else {}), "hashes": [{"alg": "SHA-256", "content": sha256}]}


def coordinates(jar: Path) -> tuple[str | None, str, str]:
    """Group, name and version: as jars.xml has them, else of the pom inside that fits the file's name, else of the name alone."""
    direct = jars.descriptor_coordinates().get(jar.name)
    if direct is not None:
        return direct
    with zipfile.ZipFile(jar) as archive:
        for entry in archive.namelist():
            if entry.startswith("META-INF/maven/") and entry.endswith("/pom.properties"):
                said = dict(line.split("=", 1) for line in archive.read(entry).decode().splitlines() if "=" in line)
                if f"{said.get('artifactId')}-{said.get('version')}.jar" == jar.name:
                    return said["groupId"], said["artifactId"], said["version"]
    name, _, version = jar.stem.rpartition("-")
    return None, name or jar.stem, version


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
