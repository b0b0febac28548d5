#!/usr/bin/env bash
# Install what `make test-devices` needs from Debian's packages: OpenSSH's server, adb, and Mesa's software Vulkan.
#
# It uses the machine's own apt sources. Debian 12 has a Mesa that is too old, so there its backports are added to a copy
# of the sources that only this script uses. It needs root, and installs only what is missing.
set -euo pipefail

missing=()
[ -x /usr/sbin/sshd ] || missing+=(openssh-server)
command -v ssh >/dev/null || missing+=(openssh-client)
command -v adb >/dev/null || missing+=(adb)
version=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null | sed 's/^[0-9]*://; s/\..*//' || true)
[ "${version:-0}" -ge 25 ] || missing+=(mesa-vulkan-drivers libvulkan1)
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "test-devices needs ${missing[*]}; install them (this script can do it only as root, on Debian or Ubuntu)." >&2
  exit 1
fi

options=() target=()
. /etc/os-release
if [[ " ${missing[*]} " == *" mesa-vulkan-drivers "* && "${VERSION_CODENAME:-}" == bookworm ]]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  mkdir -p "$folder/parts" "$folder/lists/partial"
  # The main archive once more, with the backports as its suite.
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    [ -f "$file" ] || continue
    cp "$file" "$folder/parts/own${file##*sources}"
    case $file in
      *.sources) sed "s/^Suites:.*/Suites: $VERSION_CODENAME-backports/" "$file" | awk 'BEGIN { RS = ""; ORS = "\n\n" } NR == 1' > "$folder/parts/backports.sources" ;;
      *) sed -n "s/^\(deb .*\) $VERSION_CODENAME \(.*\)/\1 $VERSION_CODENAME-backports \2/p" "$file" | head -1 > "$folder/parts/backports.list" ;;
    esac
    cp "$file" "$folder/parts/$(basename "$file" .list)$([[ $file == *.list ]] && echo .list)" 2>/dev/null || true
    break
  done
  options=(-o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$folder/parts" -o "Dir::State::Lists=$folder/lists")
  target=(-t "$VERSION_CODENAME-backports")
fi
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get -q update "${options[@]}" && apt-get -q install -y --no-install-recommends "${target[@]}" "${options[@]}" "${missing[@]}"; } > /dev/null; then
  echo "apt-get could not install ${missing[*]}; the lines above say why." >&2
  exit 1
fi
