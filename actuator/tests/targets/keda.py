"""Asks an external scaler what KEDA's operator and metrics server ask it, with Google's gRPC and protobuf.

Arguments: the folder with externalscaler.proto, the scaler's address. It says `units N` when the workload is to get
as many, and goes on when it is told that this has been done.
"""

import importlib
import math
import sys
import tempfile
import threading

import grpc
from grpc_tools import protoc

folder, address = sys.argv[1:3]
generated = tempfile.mkdtemp()
status = protoc.main(
    ["protoc", f"-I{folder}", f"--python_out={generated}", f"--grpc_python_out={generated}", "externalscaler.proto"]
)
assert status == 0, "protoc"
sys.path.insert(0, generated)
messages = importlib.import_module("externalscaler_pb2")
services = importlib.import_module("externalscaler_pb2_grpc")

# The contract as KEDA has it: whoever changes a name or a number breaks every cluster.
EXPECTED = {
    "ScaledObjectRef": {"name": 1, "namespace": 2, "scalerMetadata": 3},
    "IsActiveResponse": {"result": 1},
    "GetMetricSpecResponse": {"metricSpecs": 1},
    "MetricSpec": {"metricName": 1, "targetSize": 2, "targetSizeFloat": 3},
    "GetMetricsRequest": {"scaledObjectRef": 1, "metricName": 2},
    "GetMetricsResponse": {"metricValues": 1},
    "MetricValue": {"metricName": 1, "metricValue": 2, "metricValueFloat": 3},
}
file = messages.DESCRIPTOR
assert file.package == "externalscaler"
found = {name: {f.name: f.number for f in message.fields} for name, message in file.message_types_by_name.items()}
assert found == EXPECTED, found
calls = {call.name: call.server_streaming for call in file.services_by_name["ExternalScaler"].methods}
assert calls == {
    "IsActive": False,
    "StreamIsActive": True,
    "GetMetricSpec": False,
    "GetMetrics": False,
    "StreamMetricSpec": True,
}, calls

scaler = services.ExternalScalerStub(grpc.insecure_channel(address))


def scaled_object(**metadata):
    return messages.ScaledObjectRef(name="shop-pods", namespace="prod", scalerMetadata=metadata)


shop = scaled_object(scalerAddress=address, workload="shop")


def units(number):
    print(f"units {number}", flush=True)
    assert sys.stdin.readline() == "done\n"


def replicas(current):
    """What a HorizontalPodAutoscaler makes of the metric, with a target of kind AverageValue."""
    (spec,) = scaler.GetMetricSpec(shop).metricSpecs
    target = spec.targetSizeFloat if spec.targetSizeFloat > 0 else spec.targetSize
    request = messages.GetMetricsRequest(scaledObjectRef=shop, metricName=spec.metricName)
    (metric,) = scaler.GetMetrics(request).metricValues
    assert metric.metricName == spec.metricName
    value = metric.metricValueFloat if metric.metricValueFloat > 0 else metric.metricValue
    if current and abs(value / (target * current) - 1) <= 0.1:
        return current
    return math.ceil(value / target)


def refused(code, call, *arguments):
    try:
        call(*arguments)
    except grpc.RpcError as error:
        assert error.code() == code, error
        return error.details()
    raise AssertionError("it was not refused")


# At zero it is not active, and KEDA takes the last replica away; the test began with that.
assert not scaler.IsActive(shop).result
assert replicas(1) == 0

# A stream says so at once, and then each change once.
active = scaler.StreamIsActive(shop)
assert next(active).result is False
units(3)
assert next(active).result is True
assert scaler.IsActive(shop).result
assert replicas(1) == 30
units(5)
assert replicas(30) == 50
units(0)
assert next(active).result is False, "going from 3 to 5 units is no change of being active"
assert not scaler.IsActive(shop).result
active.cancel()

# The specs come at once; then the stream stays open.
specs = scaler.StreamMetricSpec(shop)
assert next(specs) == scaler.GetMetricSpec(shop)
more = []
reader = threading.Thread(target=lambda: more.extend(specs), daemon=True)
reader.start()
reader.join(timeout=2.5)
assert reader.is_alive() and not more, "KEDA would open it again and again"

# What is wrong with a trigger is said.
told = refused(grpc.StatusCode.INVALID_ARGUMENT, scaler.IsActive, scaled_object(workloads="shop"))
assert "prod/shop-pods must name its `workload`" in told and told.endswith("shop"), told
told = refused(grpc.StatusCode.NOT_FOUND, scaler.GetMetricSpec, scaled_object(workload="shoes"))
assert "`shoes`, which has no target of kind `keda`: shop" in told, told
other = messages.GetMetricsRequest(scaledObjectRef=shop, metricName="cpu")
told = refused(grpc.StatusCode.INVALID_ARGUMENT, scaler.GetMetrics, other)
assert "no metric `cpu`" in told, told
