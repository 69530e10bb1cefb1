# A libmilter filter (python3-milter) that gives every kind of answer and makes every change, steered by the
# sender, the recipients and the subject. Usage: every.py SOCKET
import Milter, sys


class Every(Milter.Base):
    def __init__(self):
        self.seen = []

    def note(self, *words):
        self.seen.append(" ".join(str(w) for w in words))

    def connect(self, host, family, addr):
        self.note("connect", host, addr[0] if addr else None)
        return Milter.CONTINUE

    def hello(self, name):
        self.note("helo", name, "tls=%s" % self.getsymval("{tls_version}"))
        return Milter.CONTINUE

    def envfrom(self, sender, *args):
        self.seen = [s for s in self.seen if s.split()[0] in ("connect", "helo")]
        self.subject = ""
        self.size = 0
        self.note("mail", sender, *args)
        self.note("auth", self.getsymval("{auth_authen}"), "addr", self.getsymval("{client_addr}"))
        self.sender = sender
        if "discard" in sender:
            return Milter.DISCARD
        return Milter.REJECT if "reject" in sender else Milter.CONTINUE

    def envrcpt(self, to, *args):
        self.note("rcpt", to, *args)
        if "multi" in to:
            self.setreply("550", "5.7.1", "first 100%%", "second", "third")
            return Milter.REJECT
        if "reject" in to:
            return Milter.REJECT
        if "temp" in to:
            return Milter.TEMPFAIL
        if "discard" in to:
            return Milter.DISCARD
        return Milter.CONTINUE

    def data(self):
        self.note("data", "i=%s" % bool(self.getsymval("i")))
        return Milter.TEMPFAIL if "nodata" in self.sender else Milter.CONTINUE

    def unknown(self, cmd):
        self.setreply("500", "5.5.2", "what is %s" % cmd)
        return Milter.REJECT

    def header(self, name, value):
        self.note("header", name, repr(value))
        if name.lower() == "subject":
            self.subject = value.strip()
        return Milter.CONTINUE

    def eoh(self):
        return Milter.REJECT if self.subject == "reject at eoh" else Milter.CONTINUE

    def body(self, chunk):
        self.size += len(chunk)
        return Milter.CONTINUE

    def eom(self):
        s = self.subject
        self.note("body", self.size)
        if s == "tell":
            for i, line in enumerate(self.seen):
                self.addheader("X-Seen-%d" % i, line)
        elif s == "edit":
            self.progress()
            self.addheader("X-Add", "1")
            self.addheader("X-Ins", "top", 0)
            self.chgheader("X-A", 2, "changed")
            self.chgheader("X-A", 1, "")
            self.chgheader("X-None", 1, "made")
            self.chgfrom("new@example.org")
            self.addrcpt("added@example.org")
            self.delrcpt("<b@example.net>")
        elif s == "body":
            self.replacebody(b"A" * 70000 + b"\r\n")
        elif s == "quarantine":
            self.quarantine("smells")
        elif s == "reply":
            self.setreply("554", "5.7.1", "no\x20thanks")
            return Milter.REJECT
        elif s == "discard":
            return Milter.DISCARD
        elif s == "accept":
            return Milter.ACCEPT
        return Milter.CONTINUE


Milter.factory = Every
Milter.set_flags(Milter.ADDHDRS | Milter.CHGBODY | Milter.ADDRCPT | Milter.DELRCPT | Milter.CHGHDRS | Milter.QUARANTINE | Milter.CHGFROM)
Milter.runmilter("every", sys.argv[1], 30)
