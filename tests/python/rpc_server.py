"""A gRPC server of all kinds of calls, of the service lab.Kinds. Messages are plain bytes. Knows nothing of a mesh.

Stop has it finish what runs (GOAWAY) and then begin anew on the same port."""
import sys
import threading
from concurrent import futures

import grpc

port = sys.argv[1]
MESSAGE = b"m" * (128 * 1024)
produced, cancelled, stopping = 0, threading.Semaphore(0), threading.Event()


def count(request, context):
    global produced
    for _ in range(int(request)):
        produced += 1
        yield MESSAGE


def fail(request, context):
    context.set_trailing_metadata((("x-why", "asked for"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


def fail_late(request, context):
    yield b"one"
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


def wait(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    over.wait(20)
    cancelled.release()
    return b""


def was_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=10) else b"no"


def stop(request, context):
    stopping.set()
    return b""


unary, stream_out = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
KINDS = {
    "Echo": unary(lambda request, context: request),
    "Count": stream_out(count),
    "Produced": unary(lambda request, context: str(produced).encode()),
    "Sum": grpc.stream_unary_rpc_method_handler(lambda all, context: str(sum(len(m) for m in all)).encode()),
    "Talk": grpc.stream_stream_rpc_method_handler(lambda all, context: (m.upper() for m in all)),
    "Fail": unary(fail),
    "FailLate": stream_out(fail_late),
    "Wait": unary(wait),
    "WasCancelled": unary(was_cancelled),
    "Stop": unary(stop),
}
while True:
    stopping.clear()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Kinds", KINDS),))
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    print("ready", flush=True)
    stopping.wait()
    server.stop(grace=20).wait()
