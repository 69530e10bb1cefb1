/* A filter on libmilter with a callback at each stage that lets all pass: what
 * asking a milter costs whoever asks, whatever the milter does. */
#include <libmilter/mfapi.h>
#include <stddef.h>

static sfsistat onConnect(SMFICTX *c, char *host, _SOCK_ADDR *addr) { return SMFIS_CONTINUE; }
static sfsistat onHelo(SMFICTX *c, char *name) { return SMFIS_CONTINUE; }
static sfsistat onEnvelope(SMFICTX *c, char **args) { return SMFIS_CONTINUE; }
static sfsistat onHeader(SMFICTX *c, char *name, char *value) { return SMFIS_CONTINUE; }
static sfsistat onStage(SMFICTX *c) { return SMFIS_CONTINUE; }

int main(int argc, char **argv) {
	struct smfiDesc filter = {
		"empty", SMFI_VERSION, 0, onConnect, onHelo, onEnvelope, onEnvelope, onHeader, onStage, NULL, onStage, NULL, NULL, NULL, onStage, NULL,
	};
	if (argc != 2 || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS)
		return 1;
	return smfi_main();
}
