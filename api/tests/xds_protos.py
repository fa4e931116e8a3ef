"""Prints the published descriptors of the messages and enums whose full names are given on standard input.

In: a JSON list of names. Out: a JSON object, name to {"fields": {name: [number, type, repeated, type name, oneof]}}
or {"values": {name: number}}; a name that is not published is null.
"""

import importlib
import json
import pathlib
import sys

from google.protobuf import descriptor_pool


def load(package):
    """Imports every generated module below a package, so that the pool knows its messages."""
    for base in map(pathlib.Path, importlib.import_module(package).__path__):
        for path in sorted(base.rglob("*_pb2.py")):
            parts = path.relative_to(base).with_suffix("").parts
            importlib.import_module(".".join((package, *parts)))


def field(f):
    kind = f.message_type or f.enum_type
    repeated = f.is_repeated if hasattr(f, "is_repeated") else f.label == f.LABEL_REPEATED
    oneof = f.containing_oneof.name if f.containing_oneof else None
    return [f.number, f.type, bool(repeated), kind.full_name if kind else "", oneof]


def describe(pool, name):
    try:
        message = pool.FindMessageTypeByName(name)
        return {"fields": {f.name: field(f) for f in message.fields}}
    except KeyError:
        pass
    try:
        enumeration = pool.FindEnumTypeByName(name)
        return {"values": {v.name: v.number for v in enumeration.values}}
    except KeyError:
        return None


load("envoy")
load("google.rpc")
names = json.load(sys.stdin)
json.dump({name: describe(descriptor_pool.Default(), name) for name in names}, sys.stdout)
