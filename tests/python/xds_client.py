"""Calls /lab.Echo/Who through xds:///<target>, <count> times on one channel, and prints who answered, as JSON."""
import collections
import json
import sys

import grpc

target, count = sys.argv[1], int(sys.argv[2])
answers, failures = collections.Counter(), []
with grpc.insecure_channel(f"xds:///{target}") as channel:
    who = channel.unary_unary("/lab.Echo/Who", request_serializer=bytes, response_deserializer=bytes)
    for _ in range(count):
        try:
            answers[who(b"", timeout=10, wait_for_ready=True).decode()] += 1
        except grpc.RpcError as error:
            failures.append(f"{error.code().name}: {error.details()}")
print(json.dumps({"answers": answers, "failures": failures[:5]}), flush=True)
