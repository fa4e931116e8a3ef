"""Calls lab.Kinds of <target> in all ways, under the name <authority>, and prints what came of it, as JSON."""
import json
import queue
import sys
import time

import grpc

target, authority = sys.argv[1], sys.argv[2]
options = [
    ("grpc.default_authority", authority),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
channel = grpc.insecure_channel(target, options=options)
call = {
    kind: getattr(channel, kind)
    for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
}


def make(kind, name):
    return call[kind](f"/lab.Kinds/{name}", request_serializer=bytes, response_deserializer=bytes)


def ends(run):
    """How a call ends: its status and words."""
    try:
        run()
        return "OK"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"


def talk(after_first=lambda: None):
    """Three messages in turn on one stream."""
    say = queue.Queue()
    heard = make("stream_stream", "Talk")(iter(say.get, None), timeout=30)
    said = []
    for word in (b"one", b"two", b"three"):
        say.put(word)
        said.append(next(heard).decode())
        if len(said) == 1:
            after_first()
    say.put(None)
    said += [m.decode() for m in heard]
    return {"said": said, "status": heard.code().name}


echo, produced = make("unary_unary", "Echo"), make("unary_unary", "Produced")
was_cancelled = make("unary_unary", "WasCancelled")
seen = {"unary": echo(b"hello", timeout=20, wait_for_ready=True).decode()}
large = bytes(range(256)) * (8 * 4096)
seen["large"] = [len(large), echo(large, timeout=30) == large]
seen["server_streams"] = sum(len(m) for m in make("unary_stream", "Count")(b"4", timeout=20))
seen["client_streams"] = int(make("stream_unary", "Sum")((b"x" * 100_000 for _ in range(40)), timeout=20))
seen["both_stream"] = talk()

# Errors: without a message before, and after one.
failed = make("unary_unary", "Fail").future(b"", timeout=20)
seen["fails"] = ends(failed.result)
seen["why"] = dict(failed.trailing_metadata()).get("x-why")
late, got = make("unary_stream", "FailLate")(b"", timeout=20), []
seen["fails_late"] = ends(lambda: got.extend(late))
seen["before"] = [m.decode() for m in got]

# The server hears of a caller that gives up, and of one whose time is over.
pending = make("unary_unary", "Wait").future(b"", timeout=20)
echo(b"the other has begun, or does now", timeout=20)
pending.cancel()
seen["cancelled"] = was_cancelled(b"", timeout=20).decode()
seen["deadline"] = ends(lambda: make("unary_unary", "Wait")(b"", timeout=0.5))
seen["deadline_heard"] = was_cancelled(b"", timeout=20).decode()

# A reader that stands still stops its writer, and nobody else.
before = int(produced(b"", timeout=20))
many = make("unary_stream", "Count")(b"512", timeout=60)
first = next(many)
steady, last = 0, -1
while steady < 10:
    now = int(produced(b"", timeout=20)) - before
    steady, last = (steady + 1 if now == last else 0), now
    time.sleep(0.05)
seen["written_ahead"] = last
seen["slow"] = [len(first) + sum(len(m) for m in many), many.code().name]

# A server that goes away lets streams end; calls after it find the next one.
seen["goaway"] = talk(after_first=lambda: make("unary_unary", "Stop")(b"", timeout=20))
until = time.monotonic() + 20
while (status := ends(lambda: echo(b"again", timeout=5, wait_for_ready=True))) != "OK" and time.monotonic() < until:
    time.sleep(0.05)
seen["after"] = status
print(json.dumps(seen), flush=True)
