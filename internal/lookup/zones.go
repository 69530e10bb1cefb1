package lookup

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

const (
	recheck   = time.Hour   // how often a zone's test points are asked again
	retry     = time.Minute // the same, if they could not be asked
	maxChecks = 8           // zones that are checked at once
)

// zones watches the health of the DNS lists that the policy declares. A list
// that has gone away often ends by listing everybody, so each is asked for its
// test points before anything else, and hourly from then on.
type zones struct {
	ask     asker
	timeout time.Duration // of one zone's check
	log     *zap.Logger
	off     *prometheus.GaugeVec

	ctx  context.Context // of the checks; ends with close
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex // guards what follows
	all      map[string]*zone
	watching bool
	wake     chan struct{} // something is due sooner than it was
}

// zone is what is known of one list.
type zone struct {
	declared bool
	due      time.Time
	tried    chan struct{} // closed after the first check
	fault    string        // why it is off; "" if it is not
	told     string        // what the log knows
}

func (z *zones) init(ask asker, timeout time.Duration, log *zap.Logger, reg prometheus.Registerer) {
	z.ask, z.timeout, z.log = ask, timeout, log
	z.all, z.wake = map[string]*zone{}, make(chan struct{}, 1)
	z.ctx, z.stop = context.WithCancel(context.Background())
	z.off = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "moongate_dnsbl_off",
		Help: "1 for a DNS list that failed its test points and is not asked."}, []string{"zone"})
	if reg != nil {
		reg.MustRegister(z.off)
	}
}

// Watch says which DNS lists the policy declares now, instead of those before.
// Their test points are asked in the background, at once and hourly until
// another call leaves them out or the World is closed. It does not wait.
func (w *World) Watch(names []string) { w.zones.watch(names) }

func (z *zones) watch(names []string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, s := range z.all {
		s.declared = false
	}
	now := time.Now()
	for _, name := range names {
		s := z.all[name]
		if s == nil {
			s = &zone{tried: make(chan struct{})}
			z.all[name] = s
		}
		s.declared, s.due = true, now
	}
	for name, s := range z.all {
		if !s.declared {
			z.off.DeleteLabelValues(name)
		}
		// One that is off stays so for messages that began with the policy before.
		if !s.declared && s.fault == "" {
			delete(z.all, name)
			s.known() // who waits for its check waits no longer
		}
	}
	if len(names) > 0 && !z.watching && z.ctx.Err() == nil {
		z.watching = true
		z.work.Go(z.run)
	}
	select {
	case z.wake <- struct{}{}:
	default:
	}
}

// run checks what is due, until no zone is declared any more.
func (z *zones) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-z.wake:
		case <-z.ctx.Done():
			return
		}
		z.checkAll(z.due())
		next, ok := z.next()
		if !ok {
			return
		}
		timer.Reset(time.Until(next))
	}
}

// due is the zones to be checked now.
func (z *zones) due() (names []string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	now := time.Now()
	for name, s := range z.all {
		if s.declared && !s.due.After(now) {
			names, s.due = append(names, name), now.Add(recheck)
		}
	}
	return names
}

// next is when a zone is due again; there is none if nothing is declared, and
// then the watch has ended.
func (z *zones) next() (next time.Time, ok bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, s := range z.all {
		if s.declared && (!ok || s.due.Before(next)) {
			next, ok = s.due, true
		}
	}
	z.watching = ok
	return next, ok
}

// checkAll checks zones, a few at once, and waits for them.
func (z *zones) checkAll(names []string) {
	each(names, func(name string) {
		ctx, cancel := context.WithTimeout(z.ctx, z.timeout)
		defer cancel()
		fault, err := testPoints(ctx, z.ask, name)
		z.learn(name, fault, err)
	})
}

// each calls do for every name, maxChecks at once, and waits.
func each(names []string, do func(string)) {
	places := make(chan struct{}, maxChecks)
	var all sync.WaitGroup
	for _, name := range names {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			do(name)
		})
	}
	all.Wait()
}

// learn notes what came of a check. If the zone could not be asked, what was
// known stays.
func (z *zones) learn(name, fault string, err error) {
	if z.ctx.Err() != nil { // we are closing, and the zone is not to blame
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.all[name]
	if s == nil { // left out meanwhile
		return
	}
	s.known()
	if err != nil {
		fault = s.fault
		s.due = time.Now().Add(retry)
	}
	s.fault = fault
	if !s.declared {
		return
	}
	value := 0.0
	if fault != "" {
		value = 1
	}
	z.off.WithLabelValues(name).Set(value)
	z.tell(name, s, err)
}

// tell writes what has changed into the log.
func (z *zones) tell(name string, s *zone, err error) {
	told := s.fault
	if err != nil {
		told = err.Error()
	}
	if told == s.told {
		return
	}
	s.told = told
	switch {
	case err != nil:
		z.log.Warn("dns list cannot be asked for its test points", zap.String("zone", name), zap.Error(err))
	case s.fault != "":
		z.log.Warn("dns list is switched off", zap.String("zone", name), zap.String("fault", s.fault))
	default:
		z.log.Info("dns list passes its test points again", zap.String("zone", name))
	}
}

// known lets those go on who wait for the first check. The zones' mutex is held.
func (s *zone) known() {
	select {
	case <-s.tried:
	default:
		close(s.tried)
	}
}

// usable reports whether a zone may be asked. While one is looked at for the
// first time it waits, as long as ctx lets it: a list that lists everybody must
// not refuse the first client of the day.
func (z *zones) usable(ctx context.Context, name string) error {
	z.mu.Lock()
	s := z.all[name]
	if s == nil { // no policy declares it, or not any more
		z.mu.Unlock()
		return nil
	}
	z.mu.Unlock()
	select {
	case <-s.tried:
	default:
		select {
		case <-s.tried:
		case <-ctx.Done():
			return ErrTemporary
		case <-z.ctx.Done():
			return ErrTemporary
		}
	}
	z.mu.Lock() // only now: what was there before the check is no answer
	fault := s.fault
	z.mu.Unlock()
	if fault != "" {
		return fmt.Errorf("list %s is switched off: %s", name, fault)
	}
	return nil
}

// close ends the watch and waits for it.
func (z *zones) close() {
	z.stop()
	z.work.Wait()
}
