#!/usr/bin/env bash
# The web page's tests drive a real Chromium, which pip cannot give. As root on Debian or Ubuntu it is installed; anywhere
# else those tests say that they were skipped, and nothing else depends on it.
set -uo pipefail
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "installing Chromium for the tests of the web page (once)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 && exit 0
fi
echo "no Chromium here: the tests of the web page will be skipped (Debian, Ubuntu: apt-get install chromium)"
