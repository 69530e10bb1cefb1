#!/bin/sh
# Unpacks Debian's Sendmail into a directory of its own, where it does not touch the Postfix that is
# installed, for TestSendmail. It is not set up as a mail system and nothing is started.
#
#   test/milter/sendmail.sh [DIR]      default /usr/local/lib/sendmail-for-tests; the test reads SENDMAIL_ROOT
set -eu
dir=${1:-${SENDMAIL_ROOT:-/usr/local/lib/sendmail-for-tests}}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
apt-get download -q sendmail-bin sendmail-cf libwrap0
mkdir -p "$dir"
for deb in *.deb; do dpkg -x "$deb" "$dir"; done
chmod 755 "$dir/usr/libexec/sendmail/sendmail" # no setgid: a test runs it as it is
