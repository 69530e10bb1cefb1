package milter

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// A Socket says where a Server listens.
type Socket struct {
	Address string      // "127.0.0.1:7357" or "unix:/run/moongate/milter.sock"
	Mode    fs.FileMode // of a unix socket; 0 means 0660
	Group   string      // name or number of its group; "" leaves it as it is
}

// Listen opens the socket. A socket file that a dead process left behind is
// replaced; one that somebody listens on is not.
func (s Socket) Listen() (net.Listener, error) {
	path, ok := strings.CutPrefix(s.Address, "unix:")
	if !ok {
		return net.Listen("tcp", s.Address)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("listen on %s: somebody does already", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", path, err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := s.permit(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// permit sets group and mode; the group first, or there would be a moment in
// which the wrong group may connect.
func (s Socket) permit(path string) error {
	if s.Group != "" {
		gid, err := strconv.Atoi(s.Group)
		if err != nil {
			g, err := user.LookupGroup(s.Group)
			if err != nil {
				return err
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return err
			}
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	mode := s.Mode
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(path, mode)
}
