#!/usr/bin/env bash
# Install what `make test-devices` needs from Debian's packages: OpenSSH, adb, and Mesa's software Vulkan.
#
# It uses the machine's own apt sources and installs only what is missing, as root or with a sudo that asks for nothing.
# The Mesa of Debian 12 is too old, so there it comes from the backports, which only this script's copy of the sources
# names.
set -euo pipefail

packages=() mesa=()
[ -x /usr/sbin/sshd ] || packages+=(openssh-server)
command -v ssh > /dev/null || packages+=(openssh-client)
command -v adb > /dev/null || packages+=(adb)
# Print the first number of the version of Mesa's Vulkan drivers; 0 if they are not installed.
mesa_version() {
  { dpkg-query -W -f '${db:Status-Abbrev} ${Version}\n' mesa-vulkan-drivers 2> /dev/null || true; } |
    sed -n 's/^ii  *\([0-9]*:\)\{0,1\}\([0-9]*\).*/\2/p' | grep . || echo 0
}
[ "$(mesa_version)" -ge 25 ] || mesa+=(mesa-vulkan-drivers)
missing=("${packages[@]}" "${mesa[@]}")
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

fail() {
  echo "make test-devices needs ${missing[*]} (mesa-vulkan-drivers of version 25 or newer): $1" >&2
  exit 1
}
command -v apt-get > /dev/null || fail "there is no apt-get here, so install them by hand."
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  sudo -n true 2> /dev/null || fail "installing them needs root, or a sudo without a password."
  sudo=(sudo -n)
fi
folder=$(mktemp -d)
chmod 755 "$folder"
trap '"${sudo[@]}" rm -rf "$folder"' EXIT

# Run apt-get, and show what it prints only if it fails.
apt_get() {
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" > "$folder/log" 2>&1 && return
  cat "$folder/log" >&2
  fail "apt-get could not install them; the lines above say why."
}

apt_get update
if [ ${#packages[@]} -gt 0 ]; then
  apt_get install -y --no-install-recommends "${packages[@]}"
fi
if [ ${#mesa[@]} -gt 0 ]; then
  . /etc/os-release
  options=()
  if [ "${VERSION_CODENAME:-}" = bookworm ]; then
    suite=$VERSION_CODENAME-backports
    mkdir -p "$folder/sources" "$folder/lists/partial"
    # The main archive, which is the first entry, once as it is and once with the backports as its suite.
    if [ -f /etc/apt/sources.list.d/debian.sources ]; then
      awk 'BEGIN { RS = ""; ORS = "\n\n" } /Suites:/ { print; exit }' /etc/apt/sources.list.d/debian.sources > "$folder/sources/main.sources"
      sed "s/^Suites:.*/Suites: $suite/" "$folder/sources/main.sources" > "$folder/sources/backports.sources"
    elif [ -f /etc/apt/sources.list ]; then
      grep -E "^deb .* $VERSION_CODENAME( |$)" /etc/apt/sources.list | head -n 1 > "$folder/sources/main.list" || true
      sed "s/ $VERSION_CODENAME / $suite /" "$folder/sources/main.list" > "$folder/sources/backports.list"
    fi
    options=(-t "$suite" -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$folder/sources" -o "Dir::State::Lists=$folder/lists")
    apt_get "${options[@]}" update
  fi
  apt_get "${options[@]}" install -y --no-install-recommends "${mesa[@]}"
  [ "$(mesa_version)" -ge 25 ] || fail "the sources of this machine have only Mesa $(mesa_version)."
fi
