# A libmilter filter (python3-milter) that says of all it hears that it is still at it, also where it has agreed to
# give no answer: libmilter sends it anywhere. Usage: working.py SOCKET
import Milter, sys


class Working(Milter.Base):
    def tell(self, *args):
        self.progress()
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):
        return self.tell()

    @Milter.noreply
    def eoh(self):
        return self.tell()

    @Milter.noreply
    def body(self, chunk):
        return self.tell()

    connect = hello = envfrom = envrcpt = data = tell

    def eom(self):
        self.progress()
        self.addheader("X-Working", "1")
        return Milter.CONTINUE


Milter.factory = Working
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("working", sys.argv[1], 240)
