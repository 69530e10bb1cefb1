package wire

import "github.com/emersion/go-milter"

// The protocol versions that are spoken. Version 2 is the oldest that any MTA
// in use offers (Sendmail 8.12); 6 is the newest there is (Sendmail 8.14).
const (
	MinVersion = 2
	MaxVersion = 6
)

// Commands and answers that go-milter has no name for.
const (
	CodeUnknown milter.Code = 'U' // SMFIC_UNKNOWN [v3]: a command the MTA does not know

	ActProgress milter.ActionCode = 'p' // SMFIR_PROGRESS [v6]: still at it, wait on
	ActShutdown milter.ActionCode = '4' // SMFIR_SHUTDOWN: 421, close; Postfix knows it
	ActConnFail milter.ActionCode = 'f' // SMFIR_CONN_FAIL: Sendmail only

	ActAddRcptArgs milter.ModifyActCode = '2' // SMFIR_ADDRCPT_PAR [v6]
)

// What each version may contain, as Sendmail and Postfix mask their offers: a
// bit beyond the version is not sent even if the peer offered it.
const (
	actionsV2  milter.OptAction   = 0x3f
	actionsV6  milter.OptAction   = 0x1ff
	protocolV2 milter.OptProtocol = 0x7f
	protocolV3 milter.OptProtocol = protocolV2 | milter.OptNoUnknown
	protocolV4 milter.OptProtocol = protocolV3 | milter.OptNoData
	protocolV6 milter.OptProtocol = 0x1fffff
)

// Limits of what a version can say: the actions and the protocol steps.
func Limits(version uint32) (milter.OptAction, milter.OptProtocol) {
	switch {
	case version <= 2:
		return actionsV2, protocolV2
	case version == 3:
		return actionsV2, protocolV3
	case version <= 5:
		return actionsV2, protocolV4
	}
	return actionsV6, protocolV6
}
