package sink

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// Stored is a message that was stored.
type Stored struct {
	From string
	To   []string
	Name string // of the file in the Maildir, as the reply gave it
	Size int64
}

// Server is the SMTP server. Set the fields before Serve; Maildir is required.
type Server struct {
	Maildir  *Maildir
	Hostname string        // in the greeting; default localhost
	MaxSize  int64         // of a message; default 100 MiB
	Timeout  time.Duration // for one read or write; default 5 minutes
	// OnStored is called after each message, from its session's goroutine,
	// before the client hears 250. nil: nobody.
	OnStored func(Stored)

	once sync.Once
	smtp *smtp.Server
	mu   sync.Mutex // guards listeners
	ls   []*listener
}

func (s *Server) init() {
	s.once.Do(func() {
		if s.Timeout == 0 {
			s.Timeout = 5 * time.Minute
		}
		s.smtp = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
			return &session{server: s}, nil
		}))
		s.smtp.Domain = orText(s.Hostname, "localhost")
		s.smtp.MaxMessageBytes = s.MaxSize
		if s.MaxSize == 0 {
			s.smtp.MaxMessageBytes = 100 << 20
		}
		s.smtp.MaxLineLength = 2 << 20 // one number for commands and body; bodies have long lines
		s.smtp.MaxRecipients = 10000
		s.smtp.WriteTimeout = s.Timeout // reads have theirs in conn
		s.smtp.EnableSMTPUTF8 = true
		s.smtp.EnableDSN = true
		s.smtp.ErrorLog = log.New(io.Discard, "", 0) // a client that went away is no news
	})
}

// Serve accepts clients until Shutdown; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	wrapped := &listener{Listener: l, timeout: s.Timeout, open: map[*conn]struct{}{}}
	s.mu.Lock()
	s.ls = append(s.ls, wrapped)
	s.mu.Unlock()
	return s.smtp.Serve(wrapped)
}

// Shutdown stops accepting and waits until the sessions end by themselves, at
// the latest until ctx is done; then it closes what is open. A message whose
// 250 was not said is not stored, or is stored twice if the client says it again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	stop := context.AfterFunc(ctx, s.closeAll)
	defer stop()
	err := s.smtp.Shutdown(context.WithoutCancel(ctx)) // it waits for its goroutines, which closeAll ends
	if errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.ls {
		l.closeAll()
	}
}

// session is one client's conversation, and the message being received.
type session struct {
	server *Server
	begun  bool
	from   string
	to     []string
}

var _ smtp.Session = (*session)(nil)

var (
	errNested  = &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "Nested MAIL command"}
	errStorage = &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 3, 1}, Message: "Cannot store the message"}
)

// Mail refuses a second MAIL, which the library would take. RFC 5321 4.1.4.
func (c *session) Mail(from string, _ *smtp.MailOptions) error {
	if c.begun {
		return errNested
	}
	c.begun, c.from = true, from
	return nil
}

func (c *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.to = append(c.to, to)
	return nil
}

// Data stores the message and answers as Postfix does, so that moongate finds
// the queue id in the reply.
func (c *session) Data(r io.Reader) error {
	in := &remembered{r: r}
	name, size, err := c.server.Maildir.Deliver(in)
	switch {
	case in.err != nil: // too large, or the client went away: the library has the words
		return in.err
	case err != nil:
		return errStorage
	}
	if c.server.OnStored != nil {
		c.server.OnStored(Stored{From: c.from, To: c.to, Name: name, Size: size})
	}
	return &smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "Ok: queued as " + name}
}

func (c *session) Reset() { c.begun, c.from, c.to = false, "", nil }

func (c *session) Logout() error { return nil }

// remembered tells a client's failure from the disk's.
type remembered struct {
	r   io.Reader
	err error
}

func (r *remembered) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func orText(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
