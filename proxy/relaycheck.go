package proxy

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/moongate/moongate/policy"
)

// RelayCheck is what an upstream said to a recipient that is none of its own,
// offered in the name of an outsider.
type RelayCheck struct {
	Open  bool         // it accepted: everybody can relay through it
	Reply policy.Reply // to RCPT, or to MAIL if that was refused
}

// CheckRelay asks the upstream whether it would relay for a stranger from
// 192.0.2.1 (RFC 5737, nobody's address) to recipient. Nothing is sent: the
// transaction ends before DATA. It tells something only of an upstream that
// knows the client (identity proxy or xclient); of another one the guard of
// this package takes care, and CheckRelay is an error.
func (h *Hop) CheckRelay(ctx context.Context, recipient policy.Path) (RelayCheck, error) {
	if !h.KnowsClient() {
		return RelayCheck{}, fmt.Errorf("the upstream sees us, whoever the client is (identity none or xforward): `domains` is what guards it")
	}
	f := &policy.Facts{
		ID:       "relay-check",
		Remote:   netip.MustParseAddrPort("192.0.2.1:2525"),
		Local:    netip.MustParseAddrPort("192.0.2.2:25"),
		Helo:     "relay-check.invalid",
		Proto:    "ESMTP",
		Stranger: true,
	}
	u, err := h.Get(ctx, f)
	if err != nil {
		return RelayCheck{}, err
	}
	defer h.Forget(f.ID)
	defer u.Return()
	u.Begin(f, f.ID)
	if err := u.Send("MAIL", []byte("FROM:<>")); err != nil {
		return RelayCheck{}, err
	}
	r, err := u.Reply(ctx)
	if err != nil || !r.Positive() {
		return RelayCheck{Reply: r}, err
	}
	if err := u.Send("RCPT", []byte("TO:"+recipient.Raw)); err != nil {
		return RelayCheck{}, err
	}
	r, err = u.Reply(ctx)
	if err != nil {
		return RelayCheck{}, err
	}
	return RelayCheck{Open: r.Positive(), Reply: r}, nil
}
