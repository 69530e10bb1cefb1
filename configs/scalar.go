package configs

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written "50MB" or 52428800. K, M and G are
// powers of 1024, with or without B, as mail servers count.
type Size int64

var sizeUnits = []struct {
	suffix string
	factor int64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30},
	{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"B", 1},
}

var errSize = errors.New(`not a size; write it as "50MB", "64KB" or a number of bytes`)

// ParseSize reads "50MB", "1 GiB", "4096". It refuses fractions and signs.
func ParseSize(s string) (Size, error) {
	digits, factor := strings.ToUpper(strings.TrimSpace(s)), int64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/factor {
		return 0, errSize
	}
	return Size(int64(n) * factor), nil
}

// String writes a Size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range []struct {
		name   string
		factor Size
	}{{"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if s != 0 && s%u.factor == 0 {
			return fmt.Sprintf("%d%s", s/u.factor, u.name)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseDuration reads "30s", "5m", "1h30m". Negative ones have no meaning here.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errors.New(`not a duration; write it as "30s", "5m" or "1h30m"`)
	}
	return d, nil
}

// parsePrefix reads "10.0.0.0/8" or one address. Bits behind the mask are
// refused: who writes 10.0.0.1/8 means either the host or the network.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, errors.New(`not a network; write it as "10.0.0.0/8", "2001:db8::/32" or one address`)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits behind its mask; write %s for the network or %s for the host", p, p.Masked(), p.Addr())
	}
	return p, nil
}

// Address is where to listen or to dial: "host:port" or "unix:/path". The
// empty Address means none.
type Address string

const unixPrefix = "unix:"

func parseAddress(s string) (Address, error) {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if path == "" {
			return "", errors.New(`"unix:" wants a path behind it`)
		}
		return Address(s), nil
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf(`%q is not an address; write it as "127.0.0.1:2525", "[::1]:2525" or "unix:/run/moongate/smtp.sock"`, s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is not a port number", port)
	}
	return Address(s), nil
}

// Split gives what net.Listen and net.Dial take: "unix" and the path, or
// "tcp" and host:port.
func (a Address) Split() (network, addr string) {
	if path, ok := strings.CutPrefix(string(a), unixPrefix); ok {
		return "unix", path
	}
	return "tcp", string(a)
}

// hostPort is the TCP side of an Address; ok is false for a unix socket.
func (a Address) hostPort() (host, port string, ok bool) {
	network, addr := a.Split()
	if network != "tcp" {
		return "", "", false
	}
	host, port, err := net.SplitHostPort(addr)
	return host, port, err == nil
}

// Local reports whether only this machine can reach a listener at a: a unix
// socket, a loopback address, or the name localhost. Another name may resolve
// to anything, and so is not local.
func (a Address) Local() bool {
	host, _, ok := a.hostPort()
	if !ok {
		return true
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
