"""A client of the registry from another language: nothing but grpcio and the published proto files.

    python -m venv venv && venv/bin/pip install grpcio grpcio-tools
    venv/bin/python -m grpc_tools.protoc -I proto --python_out=gen --grpc_python_out=gen \
        proto/registry/v1/*.proto
    PYTHONPATH=gen venv/bin/python docs/tutorial/client.py 127.0.0.1:8080

It registers an instance, renews its lease, finds it, watches it change, and takes it away again.
"""

import sys
import threading
import uuid

import grpc
from google.protobuf.duration_pb2 import Duration
from registry.v1 import cluster_pb2, cluster_pb2_grpc
from registry.v1 import discovery_pb2, discovery_pb2_grpc
from registry.v1 import registry_pb2, registry_pb2_grpc
from registry.v1 import types_pb2

DEADLINE_SECONDS = 10


def main(endpoint: str) -> None:
    channel = grpc.insecure_channel(endpoint)
    registry = registry_pb2_grpc.RegistryServiceStub(channel)
    discovery = discovery_pb2_grpc.DiscoveryServiceStub(channel)
    cluster = cluster_pb2_grpc.ClusterServiceStub(channel)

    status = cluster.ClusterStatus(cluster_pb2.ClusterStatusRequest(), timeout=DEADLINE_SECONDS)
    print(f"status: {len(status.members)} members, {status.leader_id} leads")

    # A watch begins with what is there, then tells each change.
    seen, added, removed = [], threading.Event(), threading.Event()
    watch = discovery.Watch(discovery_pb2.WatchRequest(service_name="python-app"))

    def read() -> None:
        try:
            for message in watch:
                for changes in message.changes:
                    for event in changes.events:
                        kind = discovery_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_")
                        seen.append(f"{kind} {event.instance.instance_id}")
                        {"ADDED": added, "REMOVED": removed}.get(kind, threading.Event()).set()
                if message.kind == discovery_pb2.WATCH_KIND_SYNCED:
                    synced.set()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    synced = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    assert synced.wait(DEADLINE_SECONDS), "the watch is synced"

    # The request id makes the call safe to repeat and names this run of the program as owner.
    program = str(uuid.uuid4())
    registered = registry.Register(
        registry_pb2.ServiceRegisterRequest(
            service_name="python-app",
            host="127.0.0.1",
            port=5000,
            ttl=Duration(seconds=15),
            request_id=types_pb2.RequestId(client=program, serial=1),
        ),
        timeout=DEADLINE_SECONDS,
    )
    print(f"registered: {registered.instance.instance_id}")

    beat = registry.Heartbeat(
        registry_pb2.HeartbeatRequest(lease_id=registered.lease_id), timeout=DEADLINE_SECONDS
    )
    print(f"heartbeat: {beat.remaining_ttl.seconds} s left")

    found = discovery.Discover(
        discovery_pb2.ServiceDiscoveryRequest(service_name="python-app"), timeout=DEADLINE_SECONDS
    )
    for instance in found.instances:
        print(f"discovered: {instance.host}:{instance.port}")

    registry.Deregister(
        registry_pb2.ServiceDeregisterRequest(
            service_name="python-app",
            host="127.0.0.1",
            port=5000,
            incarnation=registered.incarnation,
            request_id=types_pb2.RequestId(client=program, serial=2, done_below=2),
        ),
        timeout=DEADLINE_SECONDS,
    )
    assert added.wait(DEADLINE_SECONDS) and removed.wait(DEADLINE_SECONDS), f"watched only {seen}"
    watch.cancel()
    reader.join()
    for event in seen:
        print(f"watched: {event}")

    try:
        registry.Register(registry_pb2.ServiceRegisterRequest(host="127.0.0.1"), timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        print(f"refused: {error.code().name}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080")
