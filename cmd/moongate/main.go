// Command moongate is a programmable front door for mail.
//
// main.go tells how it starts, reloads and ends; wire.go makes the rooms out of
// the configuration; each subcommand has a file of its own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"go.uber.org/zap"
)

func main() {
	root := rootCommand()
	os.Exit(exitCode(os.Stderr, root.ExecuteContext(context.Background())))
}

// serve is the story of a process: read the configuration, furnish the house,
// open the doors, answer signals, and leave kindly.
func serve(ctx context.Context, o options, stderr io.Writer) error {
	// From here on a signal is ours to answer: a SIGHUP that comes early must not
	// end us, and nor must a reader of the log that goes away. What comes before
	// we serve is obeyed then.
	told := heed()
	signal.Ignore(syscall.SIGPIPE)

	cfg, problems := o.load()
	if len(problems) == 0 {
		problems, _ = checkPlaces(cfg)
		problems = append(problems, checkScripts(cfg)...)
	}
	if len(problems) > 0 {
		show(stderr, problems)
		return failed(exitConfig)
	}
	log, out := logsink.New(logOptions(cfg, stderr))
	defer out.Close(lastLines)
	pace()

	h, err := furnish(cfg, log, out)
	if err != nil {
		show(stderr, err)
		return failed(exitConfig)
	}
	defer h.close()
	if problems := h.open(); len(problems) > 0 { // a port that is taken is told before anything runs
		for _, p := range problems {
			log.Error("cannot listen", zap.String("problem", p.Error()), zap.String("line", p.Source))
		}
		return failed(exitUnavailable)
	}

	for _, w := range cfg.Warnings() {
		log.Warn("configuration", zap.String("problem", w.Error()), zap.String("line", w.Source))
	}
	h.tellFiles()
	h.tellSpool()
	broken := h.start(ctx)
	notify("READY=1")
	log.Info("started", zap.String("version", versionText()), zap.String("config", o.config),
		zap.Strings("listeners", h.addresses()), zap.String("upstream", string(cfg.Upstream.Address)))
	return h.live(ctx, o.config, told, broken)
}

// lastLines is how long the end of a process waits for a slow reader of its log.
const lastLines = 5 * time.Second

// live answers signals until one of them, or a door that fails, ends the house.
func (h *house) live(ctx context.Context, config string, told signals, broken <-chan error) error {
	alive := watchdog()
	for {
		select {
		case <-alive:
			notify("WATCHDOG=1")
		case err := <-broken: // a door fell off its hinges: let the supervisor start anew
			h.log.Error("cannot go on serving", zap.Error(err))
			return failed(exitSoftware)
		case <-told.reload:
			h.reload(config, false)
		case r := <-h.asked:
			r.done <- answer{Outcome: h.reload(config, r.acceptLists)}
		case <-told.end:
			notify("STOPPING=1")
			h.drain(ctx, told.end)
			return nil
		case <-ctx.Done():
			h.drain(ctx, nil)
			return nil
		}
	}
}

// show prints what is wrong with a file, each problem with its line.
func show(w io.Writer, what any) {
	switch what := what.(type) {
	case []configs.Problem:
		for _, p := range what {
			fmt.Fprintln(w, p.Show())
		}
	case configs.Problem:
		fmt.Fprintln(w, what.Show())
	case *policyError:
		showPolicy(w, what.problems, what.dir)
	case error:
		fmt.Fprintf(w, "moongate: %v\n", what)
	}
}
