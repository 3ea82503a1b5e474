"""Calls the health check of a gRPC server, and prints a line of JSON with the answer to each call.

    python client.py 127.0.0.1:50051 3

Needs no generated code: the request is an empty message, and the answer is not looked into.
"""

import json
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

TIMEOUT_S = 20


def details(error):
    """What the status of a refusal carries, by the name of its type."""
    found = {}
    for detail in rpc_status.from_call(error).details:
        name = detail.TypeName()
        if name == "google.rpc.RetryInfo":
            info = error_details_pb2.RetryInfo()
            assert detail.Unpack(info)
            found[name] = info.retry_delay.ToMilliseconds()
        elif name == "google.rpc.QuotaFailure":
            failure = error_details_pb2.QuotaFailure()
            assert detail.Unpack(failure)
            found[name] = [[it.subject, it.description] for it in failure.violations]
        else:
            found[name] = None
    return found


def call(check):
    try:
        check(b"", timeout=TIMEOUT_S)
        return {"code": "OK"}
    except grpc.RpcError as error:
        metadata = list(error.initial_metadata() or ()) + list(error.trailing_metadata() or ())
        return {
            "code": error.code().name,
            "message": error.details(),
            "pushback": [value for name, value in metadata if name == "grpc-retry-pushback-ms"],
            "details": details(error),
        }


def main():
    target, calls = sys.argv[1], int(sys.argv[2])
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda message: message,
            response_deserializer=lambda message: message,
        )
        for _ in range(calls):
            print(json.dumps(call(check)), flush=True)


if __name__ == "__main__":
    main()
