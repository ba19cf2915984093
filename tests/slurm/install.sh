#!/usr/bin/env bash
# Install what the tests marked `slurm` want, from Debian's or Ubuntu's archive. Does nothing where it is there already,
# and says so where it may not install; the tests are then skipped, with that reason.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
for program in munged slurmctld slurmd sbatch; do command -v "$program" >/dev/null || missing=yes; done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "install.sh: no apt-get, or not root: install slurmctld, slurmd, slurm-client and munge" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# the tests start daemons of their own, and do not care whether the packages start services
apt-get update -q || true
apt-get install -y -q --no-install-recommends slurmctld slurmd slurm-client munge ||
  echo "install.sh: the packages cannot be fetched" >&2
