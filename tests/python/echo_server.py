"""A gRPC server that says who it is: /lab.Echo/Who, any bytes in, its name out. Knows nothing of a mesh."""
import sys
from concurrent import futures

import grpc

name, port = sys.argv[1], sys.argv[2]
handler = grpc.unary_unary_rpc_method_handler(lambda request, context: name.encode())
server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Echo", {"Who": handler}),))
server.add_insecure_port(f"[::]:{port}")
server.start()
print("ready", flush=True)
server.wait_for_termination()
