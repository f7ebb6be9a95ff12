#!/usr/bin/env bash
# Pins the images of docker/ by digest: every IMAGE:TAG (pinned before or not) becomes IMAGE:TAG@sha256:… as the registry has it now.
# Needs docker with buildx and a registry that answers; changes nothing unless every digest could be had. Look at the diff before you keep it.
set -euo pipefail
cd "$(dirname "$0")/.."
files=(docker/Dockerfile docker/compose.yaml)

# Names with a tag behind FROM or image:; the project's own image has none.
images=$(sed -nE 's/^(FROM|[[:space:]]+image:)[[:space:]]+([^[:space:]@]+:[^[:space:]@]+).*/\2/p' "${files[@]}" | sort -u)
declare -A digests
for image in $images; do
  digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}') \
    || { echo "error: no digest of $image: the registry does not answer, or docker has no buildx; nothing was changed" >&2; exit 1; }
  [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] || { echo "error: $image: got '$digest', expected a digest; nothing was changed" >&2; exit 1; }
  digests[$image]=$digest
done
for image in $images; do
  escaped=$(printf '%s' "$image" | sed 's/[.[\*^$/]/\\&/g')
  sed -i -E "s/(^(FROM|[[:space:]]+image:)[[:space:]]+$escaped)(@sha256:[0-9a-f]+)?/\1@${digests[$image]}/" "${files[@]}"
  echo "$image@${digests[$image]}"
done
