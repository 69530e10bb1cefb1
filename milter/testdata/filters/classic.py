# A filter of the old kind: libmilter by ctypes, without negotiate, helo and eoh callbacks, as clamav-milter and
# milter-greylist are. An MTA that offers no steps is taken for one of version 1, and hung up on.
# Usage: classic.py SOCKET
import ctypes as C, ctypes.util, sys

L = C.CDLL("libmilter.so.1.0.1")
P = C.c_void_p


def callback(*args):
    return C.CFUNCTYPE(C.c_int, *args)


def cast(f):
    return C.cast(f, P)


def eom(ctx):
    L.smfi_addheader(P(ctx), b"X-Classic", b"1")
    return 0


connect = callback(P, C.c_char_p, P)(lambda ctx, host, addr: 0)
mail = callback(P, C.POINTER(C.c_char_p))(lambda ctx, args: 0)
header = callback(P, C.c_char_p, C.c_char_p)(lambda ctx, name, value: 0)
body = callback(P, P, C.c_size_t)(lambda ctx, data, n: 0)
end = callback(P)(eom)
nothing = callback(P)(lambda ctx: 0)


class Desc(C.Structure):
    _fields_ = [("name", C.c_char_p), ("version", C.c_int), ("flags", C.c_ulong)] + [
        (n, P) for n in "connect helo envfrom envrcpt header eoh body eom abort close unknown data negotiate".split()
    ]


d = Desc(b"classic", 0x01000001, 1, cast(connect), None, cast(mail), cast(mail), cast(header), None, cast(body),
         cast(end), cast(nothing), cast(nothing), None, None, None)
L.smfi_setconn(sys.argv[1].encode())
L.smfi_register(d)
L.smfi_main()
