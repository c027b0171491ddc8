"""The other end of idle_test.py, in a process of its own: opens connections and holds them, or streams that it does not read.

held_client.py HOST PORT idle COUNT FILE      half of them ask once (FILE is the request) and go on holding, half say nothing
held_client.py HOST PORT stalled COUNT FILE   each sends FILE, a request for a stream, and reads nothing until it is told to
Speaks lines: prints what it has done, goes on at every line of its input."""
import json, resource, selectors, socket, sys

host, port, mode, count, path = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
request = open(path, "rb").read()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def say(**what):
    print(json.dumps(what), flush=True)


def told():
    if not sys.stdin.readline():
        sys.exit(0)


def connect():
    s = socket.socket()
    if mode == "stalled":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect((host, port))
    return s


def answer(s):
    """One answer with a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += s.recv(65536) or sys.exit("an idle connection was closed")
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length"))
    while len(body) < length:
        body += s.recv(65536) or sys.exit("an answer was cut off")
    return int(head.split()[1])


say(descriptors=[soft, hard])
sockets = []
if mode == "idle":
    for i in range(count):
        s = connect()
        if i % 2 == 0:
            s.sendall(request)
            assert answer(s) == 200
        sockets.append(s)
    say(held=len(sockets))
    told()
    statuses = []
    for s in sockets:                                # each of them still works
        s.sendall(request)
    for s in sockets:
        statuses.append(answer(s))
    say(ok=statuses.count(200))
    told()
else:
    for _ in range(count):
        s = connect()
        s.sendall(request)
        sockets.append(s)
    say(held=len(sockets))
    told()
    whole, selector = 0, selectors.DefaultSelector()
    tails = {}
    for s in sockets:
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ)
        tails[s] = b""
    while tails:
        for key, _ in selector.select():
            s = key.fileobj
            data = s.recv(1 << 20)
            tails[s] = (tails[s] + data)[-200:]
            if not data or tails[s].endswith(b"\r\n0\r\n\r\n"):
                whole += tails[s].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
                selector.unregister(s)
                del tails[s]
    say(whole=whole)
    told()
