"""moto's AWS, and somebody who changes and reads it with boto3, past our code.

It prints the port it listens on; then each line of its input is a command, answered with a line.
"""

import sys

import boto3
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.rds.models import RDSBackend
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
port = server.get_host_and_port()[1]
account = {
    "endpoint_url": f"http://127.0.0.1:{port}",
    "region_name": "eu-central-1",
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": "by-hand",
}
rds = boto3.client("rds", **account)
scaling = boto3.client("application-autoscaling", **account)
cloudwatch = boto3.client("cloudwatch", **account)

KIND = {"Engine": "aurora-postgresql", "DBInstanceClass": "db.r8g.large", "DBClusterIdentifier": "shop"}
TARGET = {
    "ServiceNamespace": "rds",
    "ResourceId": "cluster:shop",
    "ScalableDimension": "rds:cluster:ReadReplicaCount",
}
made = 0


def furnish():
    for name, more in [("shop", {"ServerlessV2ScalingConfiguration": {"MinCapacity": 1, "MaxCapacity": 64}}), ("old", {})]:
        rds.create_db_cluster(
            DBClusterIdentifier=name,
            Engine="aurora-postgresql",
            MasterUsername="root",
            MasterUserPassword="nobody-may-see-it",
            **more,
        )
    rds.create_db_instance(DBInstanceIdentifier="shop-writer", **KIND)
    scaling.register_scalable_target(**TARGET, MinCapacity=1, MaxCapacity=150)


def readers():
    instances = rds.describe_db_instances(Filters=[{"Name": "db-cluster-id", "Values": ["shop"]}])["DBInstances"]
    return [instance for instance in instances if instance["DBInstanceIdentifier"] != "shop-writer"]


def set_readers(number, tags):
    global made
    names = [reader["DBInstanceIdentifier"] for reader in readers()]
    for name in names[number:]:
        rds.delete_db_instance(DBInstanceIdentifier=name)
    for _ in range(number - len(names)):
        made += 1
        rds.create_db_instance(DBInstanceIdentifier=f"by-hand-{made}", Tags=tags, **KIND)


def serverless():
    return rds.describe_db_clusters(DBClusterIdentifier="shop")["DBClusters"][0]["ServerlessV2ScalingConfiguration"]


def scalable():
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="rds", ResourceIds=["cluster:shop"])["ScalableTargets"]
    return target["MinCapacity"], target["MaxCapacity"]


def coming():
    return scaling.describe_scheduled_actions(ServiceNamespace="rds")["ScheduledActions"]


def let_time_pass():
    """What AWS does at the time of a scheduled action, which moto only keeps."""
    for action in coming():
        scaling.register_scalable_target(**TARGET, **action["ScalableTargetAction"])
        scaling.delete_scheduled_action(ScheduledActionName=action["ScheduledActionName"], **TARGET)


def obey(what, number):
    """A line for each command: `actual-..`, `by-hand-..`."""
    match what:
        case "actual-readers":
            return len(readers())
        case "tags":
            return sorted({f"{tag['Key']}={tag['Value']}" for reader in readers() for tag in reader["TagList"]})
        case "names":
            return sorted(reader["DBInstanceIdentifier"] for reader in readers())
        case "by-hand-readers":
            return set_readers(number, [{"Key": "headroom:target", "Value": "it"}])
        case "readers-of-others":
            return set_readers(number, [])
        case "actual-serverless":
            return serverless()
        case "by-hand-serverless":
            both = {"MinCapacity": number / 2, "MaxCapacity": 64}
            rds.modify_db_cluster(DBClusterIdentifier="shop", ServerlessV2ScalingConfiguration=both)
        case "actual-scaling":
            return scalable()
        case "by-hand-scaling":
            scaling.register_scalable_target(**TARGET, MinCapacity=number)
        case "connections":
            for reader in readers():
                name = [{"Name": "DBInstanceIdentifier", "Value": reader["DBInstanceIdentifier"]}]
                value = {"MetricName": "DatabaseConnections", "Dimensions": name, "Value": number}
                cloudwatch.put_metric_data(Namespace="AWS/RDS", MetricData=[value])
        case "forget-connections":
            cloudwatch_backends[ACCOUNT]["eu-central-1"].metric_data.clear()
        case "actual-scheduled":
            let_time_pass()
            return scalable()
        case "by-hand-scheduled":
            let_time_pass()
            scaling.register_scalable_target(**TARGET, MinCapacity=number)
        case "scheduled":
            found = [(a["ScheduledActionName"], a["Schedule"], a["ScalableTargetAction"]["MinCapacity"]) for a in coming()]
            return scalable()[0], found
        case "lie":
            # A yes without an effect.
            RDSBackend.modify_db_cluster = lambda self, kwargs: self.clusters[kwargs["db_cluster_identifier"]]
            ApplicationAutoscalingBackend.put_scheduled_action = lambda self, **_more: None
            RDSBackend.create_db_instance = lambda self, kwargs: self.describe_db_instances("shop-writer")[0]
            ApplicationAutoscalingBackend.register_scalable_target = (
                lambda self, _service, resource, dimension, **_more: self.targets[dimension][resource]
            )
        case "honest":
            for backend, name, call in HONEST:
                setattr(backend, name, call)
        case _:
            raise ValueError(what)
    return "done"


HONEST = [
    (ApplicationAutoscalingBackend, "put_scheduled_action", ApplicationAutoscalingBackend.put_scheduled_action),
    (RDSBackend, "modify_db_cluster", RDSBackend.modify_db_cluster),
    (RDSBackend, "create_db_instance", RDSBackend.create_db_instance),
    (
        ApplicationAutoscalingBackend,
        "register_scalable_target",
        ApplicationAutoscalingBackend.register_scalable_target,
    ),
]

furnish()
print(port, flush=True)
for line in sys.stdin:
    what, _, number = line.strip().partition(" ")
    print(obey(what, int(number or 0)), flush=True)
server.stop()
