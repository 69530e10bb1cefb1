#!/bin/sh
# Installs the Debian packages that the tests talk to: real mail servers, real clients.
#
#   test/install.sh [GROUP|PACKAGE ...]     groups: mail (default) milter lua state bench all
#
# It never fails the run. Where it cannot install (not root, no apt, no network) it names what is
# missing, and the tests that need it skip themselves and say so. Nothing is started: the tests run
# their own instances from temporary directories.
set -u

mail="postfix swaks curl python3 iproute2 pflogsumm fail2ban"
milter="miltertest python3-milter opendkim opendkim-tools rspamd clamav-milter clamav-daemon m4"
lua="luajit"
state="redis-server"
bench="haproxy libmilter-dev"

wanted=""
sendmail=no
for name in "${@:-mail}"; do
	case "$name" in
	mail) wanted="$wanted $mail" ;;
	milter) wanted="$wanted $milter" sendmail=yes ;;
	lua) wanted="$wanted $lua" ;;
	state) wanted="$wanted $state" ;;
	bench) wanted="$wanted $bench" ;;
	all) wanted="$wanted $mail $milter $lua $state $bench" sendmail=yes ;;
	*) wanted="$wanted $name" ;;
	esac
done

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=""
for p in $wanted; do
	installed "$p" || missing="$missing $p"
done
# Sendmail cannot be installed beside Postfix; the milter tests have it unpacked in a place of its own.
unpack=$(dirname "$0")/milter/sendmail.sh
if [ $sendmail = no ] || [ -d "${SENDMAIL_ROOT:-/usr/local/lib/sendmail-for-tests}" ] || [ ! -x "$unpack" ]; then
	unpack=""
fi
[ -z "$missing$unpack" ] && exit 0

say() { echo "install.sh: $*" >&2; }

if ! command -v apt-get >/dev/null 2>&1; then
	say "no apt-get here; not installed:$missing${unpack:+ sendmail}"
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	say "not root; not installed:$missing${unpack:+ sendmail}"
	exit 0
fi

export DEBIAN_FRONTEND=noninteractive

# invoke-rc.d asks policy-rc.d before it starts a daemon; 101 means no. An existing one is the
# machine's own and stays.
rcd=/usr/sbin/policy-rc.d
if [ ! -e "$rcd" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$rcd" && chmod 755 "$rcd"
	trap 'rm -f "$rcd"' EXIT
	trap 'exit 1' INT TERM
fi

# Postfix's postinst would write a main.cf for this host; the tests bring their own.
case " $missing " in
*" postfix "*)
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections 2>/dev/null ||
		say "debconf would not take the answer for postfix"
	;;
esac

log=$(mktemp)
try() {
	apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}

if [ -n "$unpack" ]; then
	"$unpack" >"$log" 2>&1 || { apt-get update -q >/dev/null 2>&1 && "$unpack" >"$log" 2>&1; } ||
		{ say "sendmail:"; tail -n 3 "$log" >&2; }
fi

# One transaction if it works; the package lists may be old or absent; then one package at a time, so
# that one that cannot be had does not take the others with it.
if [ -n "$missing" ] && ! try $missing; then
	apt-get update -q >"$log" 2>&1 || { say "apt-get update failed:"; tail -n 3 "$log" >&2; }
	if ! try $missing; then
		for p in $missing; do
			try "$p" || { say "$p:"; tail -n 3 "$log" >&2; }
		done
	fi
fi
rm -f "$log"

# The tests ask fail2ban-regex; a machine that had no fail2ban is not to ban anybody from its next boot on.
case " $missing " in
*" fail2ban "*) systemctl disable fail2ban >/dev/null 2>&1 || update-rc.d fail2ban disable >/dev/null 2>&1 ;;
esac

lost=""
for p in $missing; do
	installed "$p" || lost="$lost $p"
done
[ -z "$lost" ] || say "not installed:$lost"
exit 0
