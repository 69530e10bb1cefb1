package milter

import (
	"time"

	"github.com/moongate/moongate/policy"
)

// An MTA waits 30 s for an answer. The face's MaxDelay bounds what verdicts'
// delays take of them, maxWait what questions and delays take together, and
// maxBehind what questions take for whose answer it does not wait: it has gone
// on by then, and its next wait begins while we are still at them.
const (
	maxWait   = 27 * time.Second
	maxBehind = 18 * time.Second
)

// ask puts the question, with an eye on the MTA while it is worked on, and
// waits as long as the verdict wants to. A delay is waited for where an answer
// is: elsewhere it would only take the time of the next question.
func (c *conn) ask(ev *policy.Event) policy.Verdict {
	if !c.s.Wants(ev.Hook) && ev.Hook != policy.Rcpt {
		return c.s.Ask(ev)
	}
	start := time.Now()
	c.watch.start(ev.Hook == policy.Message)
	defer c.watch.stop()
	c.env.StageTime = c.stageTime(ev.Hook)
	v := c.s.Ask(ev)
	c.env.StageTime = c.stage // log rules have theirs
	took := time.Since(start)
	delay := v.Delay + c.owed
	if c.silent(ev.Hook) {
		c.behind, c.owed = c.behind+took, delay
		return v
	}
	delay, c.owed = min(delay, policy.Milter.MaxDelay), 0
	if ev.Hook != policy.Message { // there the MTA is told to wait on
		delay = min(delay, maxWait-c.behind-took)
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-c.ctx.Done():
		}
	}
	return v
}

// stageTime is what the rules of a stage may take, so that the MTA has its next
// answer in time. There is always some: a rule that waits for nothing is done.
func (c *conn) stageTime(h policy.Hook) time.Duration {
	limit := maxWait
	if c.silent(h) {
		limit = maxBehind
	}
	return max(min(c.stage, limit-c.behind), time.Millisecond)
}

// catchUp notes that the MTA has not gone on: it has said nothing that we have
// not answered, so its next wait begins with its next command.
func (c *conn) catchUp() {
	if c.behind > time.Second && c.r.Buffered() == 0 && c.peer.Known() && c.peer.Silent() {
		c.behind = 0
	}
}
