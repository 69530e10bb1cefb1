package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/internal/sink"
	"github.com/moongate/moongate/scripts"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func demoCommand() *cobra.Command {
	var d demo
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: an upstream, the shipped policy, real messages",
		Long: `Start an upstream that stores into a Maildir and moongate before it with the
shipped policy, all on loopback; send real messages over TCP, and print what
became of each, which rule decided, and where the mail lies. Then go on serving
until Ctrl-C, with a line for each edit of the policy that is taken or refused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&d.once, "once", false, "end after the messages: exit 0 if each came out as it should")
	cmd.Flags().StringVar(&d.listen, "listen", "127.0.0.1:2525", "where to serve; another port if that one is taken")
	cmd.Flags().StringVar(&d.dir, "dir", "", "directory for policy, mail and log; what a demo left there is made anew (default a new temporary one)")
	return cmd
}

// demo is one run of the command.
type demo struct {
	once   bool
	listen string
	dir    string
	out    io.Writer

	maildir *sink.Maildir
	witness *witness
	addr    string // of moongate
}

func (d *demo) at(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) run(ctx context.Context) error {
	// An upstream, a policy, a configuration: what an operator would have.
	if err := d.prepare(); err != nil {
		return fail(exitIO, "%w", err)
	}
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(exitUnavailable, "%w", err)
	}
	backend, endBackend := context.WithCancel(context.WithoutCancel(ctx))
	stored := make(chan error, 1)
	go func() { stored <- runSink(backend, &sink.Server{Maildir: d.maildir}, upstream) }()
	defer func() { endBackend(); <-stored }()
	cfg, err := d.configure(upstream.Addr().String())
	if err != nil {
		return err
	}

	// moongate, as serve runs it; its log goes to a file and to a witness.
	logfile, err := os.Create(d.at("moongate.log"))
	if err != nil {
		return fail(exitIO, "%w", err)
	}
	defer logfile.Close()
	log, out := logsink.New(logOptions(cfg, logfile))
	defer out.Close(lastLines)
	d.witness = newWitness()
	h, err := furnish(cfg, zap.New(zapcore.NewTee(log.Core(), d.witness)), out)
	if err != nil {
		show(d.out, err)
		return failed(exitConfig)
	}
	defer h.close()
	if problems := h.open(); len(problems) > 0 {
		return fail(exitUnavailable, "%v", problems[0])
	}
	told := heed()
	broken := h.start(ctx)
	d.addr = h.doors[0].listener().Addr().String()

	// Real messages, and then whatever the reader wants to try.
	d.introduce(h)
	if err := d.perform(); err != nil {
		h.drain(ctx, told.end)
		return fail(exitSoftware, "%w", err)
	}
	if d.once {
		h.drain(ctx, told.end)
		return nil
	}
	fmt.Fprintf(d.out, "Serving on %s until Ctrl-C. Edit the policy, and try:\n\n    curl smtp://%s --mail-from carol@example.com --mail-rcpt bob@example.org -T %s\n",
		d.addr, d.addr, d.at("moongate.toml"))
	heard, deaf := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); d.narrate(heard) }()
	defer func() { deaf(); <-ended }()
	return h.live(ctx, d.at("moongate.toml"), told, broken)
}

// prepare makes the directory, the Maildir, and a copy of the shipped policy.
func (d *demo) prepare() (err error) {
	if d.dir == "" {
		d.dir, err = os.MkdirTemp("", "moongate-demo-")
	} else {
		d.dir, err = filepath.Abs(d.dir)
	}
	if err != nil {
		return err
	}
	if !d.ours() {
		return fmt.Errorf("%s holds a policy or a configuration that no demo made, and this one would replace them: name another directory", d.dir)
	}
	if d.maildir, err = sink.OpenMaildir(d.at("maildir")); err != nil {
		return err
	}
	gate, err := scripts.Policy("gate")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(d.at("policy")); err != nil { // of a demo before
		return err
	}
	return os.CopyFS(d.at("policy"), gate)
}

// ours reports whether nothing is lost if a demo writes into its directory: there is nothing, or what a demo left.
func (d *demo) ours() bool {
	there := func(name string) bool { _, err := os.Lstat(d.at(name)); return err == nil }
	return !there("policy") && !there("moongate.toml") || there("moongate.log") && there("maildir")
}

// configure writes the configuration file and reads it as serve would.
func (d *demo) configure(upstream string) (*configs.Config, error) {
	if l, err := net.Listen("tcp", d.listen); err == nil {
		l.Close()
	} else {
		d.listen = "127.0.0.1:0"
	}
	text := fmt.Sprintf(`hostname = "demo.example.org"
domains = ["example.org"]

[[listener]]
address = %q

[upstream]
address = %q

[policy]
scripts = "policy"

[admin]
address = "127.0.0.1:0"

[log]
format = "text"
`, d.listen, upstream)
	if err := os.WriteFile(d.at("moongate.toml"), []byte(text), 0o666); err != nil {
		return nil, fail(exitIO, "%w", err)
	}
	cfg, problems := configs.Load(d.at("moongate.toml"))
	if len(problems) > 0 {
		show(d.out, problems)
		return nil, failed(exitConfig)
	}
	return cfg, nil
}

func (d *demo) introduce(h *house) {
	health := h.doors[len(h.doors)-1].listener().Addr()
	fmt.Fprintf(d.out, `moongate stands at %s, before an upstream that stores what it takes.

    policy   %s   (a saved file is live within a second)
    mail     %s
    log      %s
    health   http://%s/healthz, /metrics

`, d.addr, d.at("policy"), d.at("maildir/new"), d.at("moongate.log"), health)
}

// perform holds the conversations of demoscript.go one after another.
func (d *demo) perform() error {
	var wrong []string
	for i, c := range conversations {
		fmt.Fprintf(d.out, "%d. %s\n", i+1, c.title)
		if c.before != nil {
			if err := c.before(d); err != nil {
				return err
			}
		}
		end, err := d.converse(c)
		if err != nil {
			return fmt.Errorf("conversation %d: %w", i+1, err)
		}
		if end.said != c.want {
			wrong = append(wrong, fmt.Sprintf("conversation %d came out as %s, not %s", i+1, end.said, c.want))
		}
		fmt.Fprintln(d.out)
	}
	if wrong != nil {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}
