#!/bin/bash
# Runs inside a booted systemd, as root: installs mailerd as the README says and starts the scenario. /sdx holds `src`
# (the tree) and `wheels` (the packages of requirements.lock for the system's Python).
set -eu
cp -r /sdx/src /var/tmp/src
cd /var/tmp/src
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/sdx/wheels
localedef -i zh_CN -f UTF-8 zh_CN.UTF-8
/usr/bin/time -f 'make install: %e s' make --no-print-directory install PREFIX=/opt/mailerd 2>&1 || make --no-print-directory install PREFIX=/opt/mailerd
exec /opt/mailerd/bin/python -m tests.systemd.scenario
