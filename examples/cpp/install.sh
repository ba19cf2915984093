#!/usr/bin/env bash
# Install the headers of HDF5 that accept_hdf5.cpp wants, from Debian's or Ubuntu's archive. Does nothing where they are
# there already, and says so where it may not install; the test of that program is then skipped, with that reason.
set -eu
if command -v pkg-config >/dev/null && pkg-config --exists hdf5; then exit 0; fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "install.sh: no apt-get, or not root: install libhdf5-dev and pkg-config" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q || true
apt-get install -y -q --no-install-recommends libhdf5-dev pkg-config ||
  echo "install.sh: the headers of HDF5 cannot be fetched" >&2
