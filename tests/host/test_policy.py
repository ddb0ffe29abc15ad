"""The policy language, and what the node's own policy allows."""

from __future__ import annotations

import re

import pytest
from gridnode_host import resources
from gridnode_host.bench.policy import Identity, Policy
from gridnode_host.errors import GridnodeError

ARN = "arn:aws:iot:eu-west-1:123456789012:"


def policy(*statements: dict) -> Policy:
    return Policy({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action, resource, **more):
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def rights(document: Policy, thing="n1", client_id="n1"):
    return document.bind(Identity(thing, client_id))


@pytest.fixture(scope="module")
def node():
    return rights(Policy.named("node-policy"))


P = "$aws/things/n1"


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iot:Connect", "client/n1"),
        ("iot:Publish", f"topic/{P}/shadow/update"),
        ("iot:Publish", f"topic/{P}/shadow/get"),
        ("iot:Publish", f"topic/{P}/shadow/name/harmonics/update"),
        ("iot:Publish", f"topic/{P}/jobs/get"),
        ("iot:Publish", f"topic/{P}/jobs/start-next"),
        ("iot:Publish", f"topic/{P}/jobs/$next/get"),
        ("iot:Publish", f"topic/{P}/jobs/ota-7/update"),
        ("iot:Publish", "topic/dt/gridnode/n1/status"),
        ("iot:Publish", "topic/dt/gridnode/n1/history"),
        ("iot:Publish", "topic/dt/gridnode/n1/event"),
        ("iot:Subscribe", f"topicfilter/{P}/shadow/update/delta"),
        ("iot:Subscribe", f"topicfilter/{P}/shadow/get/accepted"),
        ("iot:Subscribe", f"topicfilter/{P}/shadow/name/x/update/rejected"),
        ("iot:Subscribe", f"topicfilter/{P}/jobs/notify-next"),
        ("iot:Receive", f"topic/{P}/shadow/update/delta"),
        ("iot:Receive", f"topic/{P}/jobs/start-next/accepted"),
    ],
)
def test_node_policy_allows_what_a_node_does(node, action, resource):
    assert node.allows(action, resource)


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("iot:Connect", "client/n2"),
        ("iot:Publish", f"topic/{P}/shadow/delete"),
        ("iot:Publish", f"topic/{P}/shadow/name/x/delete"),
        ("iot:Publish", f"topic/{P}/shadow/update/accepted"),
        ("iot:Publish", f"topic/{P}/jobs/notify"),
        ("iot:Publish", "topic/$aws/things/n2/shadow/update"),
        ("iot:Publish", "topic/dt/gridnode/n2/event"),
        ("iot:Publish", "topic/dt/gridnode/n1"),
        ("iot:Publish", "topic/other"),
        ("iot:RetainPublish", "topic/dt/gridnode/n1/status"),
        ("iot:Subscribe", "topicfilter/#"),
        ("iot:Subscribe", f"topicfilter/{P}/shadow/#"),
        ("iot:Subscribe", f"topicfilter/{P}/shadow/update/documents"),
        ("iot:Subscribe", "topicfilter/$aws/things/+/shadow/update/delta"),
        ("iot:Subscribe", "topicfilter/dt/gridnode/n1/event"),
        ("iot:Receive", f"topic/{P}/shadow/update"),
        ("iot:Receive", "topic/$aws/things/n2/shadow/update/delta"),
    ],
)
def test_node_policy_forbids_the_rest(node, action, resource):
    assert not node.allows(action, resource)


def test_node_policy_fits_into_aws_and_names_no_account():
    document = resources.policy("node-policy")
    # AWS: 2048 characters without white space
    assert len(re.sub(r"\s", "", str(document))) < 2048
    for statement in document["Statement"]:
        listed = statement["Resource"]
        for resource in listed if isinstance(listed, list) else [listed]:
            assert resource.startswith("arn:aws:iot:*:*:")
            assert "ThingName}" in resource


def test_node_policy_allows_a_will_and_a_persistent_session_only(node):
    assert node.allows("iot:Connect", "client/n1", ["PersistentConnect", "LastWill"])
    assert not node.allows("iot:Connect", "client/n1", ["SomethingNew"])


def test_client_id_that_is_not_the_thing_has_no_thing_variables():
    bound = rights(Policy.named("node-policy"), "n1", "n2")
    assert not bound.allows("iot:Connect", "client/n2")
    assert not bound.allows("iot:Publish", "topic/dt/gridnode/n1/event")


def test_deny_wins_whatever_the_order():
    deny = {"Effect": "Deny", "Action": "iot:Publish", "Resource": f"{ARN}topic/a/secret"}
    wide = allow("iot:*", "*")
    for order in ((deny, wide), (wide, deny)):
        bound = rights(policy(*order))
        assert bound.allows("iot:Publish", "topic/a/open")
        assert bound.allows("iot:Subscribe", "topicfilter/a/secret")
        assert not bound.allows("iot:Publish", "topic/a/secret")


def test_wildcards_are_those_of_policies_not_of_mqtt():
    bound = rights(policy(allow("iot:Subscribe", "arn:aws:iot:*:*:topicfilter/a/?/c*")))
    assert bound.allows("iot:Subscribe", "topicfilter/a/+/c/d/#")
    assert bound.allows("iot:Subscribe", "topicfilter/a/b/c")
    assert not bound.allows("iot:Subscribe", "topicfilter/a/bb/c")
    literal = rights(policy(allow("iot:Subscribe", "arn:aws:iot:*:*:topicfilter/a/+/c")))
    assert not literal.allows("iot:Subscribe", "topicfilter/a/b/c")


def test_value_of_a_variable_is_never_a_pattern():
    open_to = policy(allow("iot:Publish", "arn:aws:iot:*:*:topic/${iot:ClientId}/x"))
    bound = rights(open_to, "n1", "*")
    assert bound.allows("iot:Publish", "topic/*/x")
    assert not bound.allows("iot:Publish", "topic/n1/x")


def test_thing_type_and_attributes():
    document = policy(
        allow("iot:Publish", ARN + "topic/${iot:Connection.Thing.Attributes[site]}/x"),
        allow(
            "iot:Subscribe",
            "*",
            Condition={"StringLike": {"iot:Connection.Thing.ThingTypeName": "feeder-*"}},
        ),
    )
    with_site = document.bind(Identity("n1", "n1", "feeder-200a", {"site": "north"}))
    assert with_site.allows("iot:Publish", "topic/north/x")
    assert not with_site.allows("iot:Publish", "topic/south/x")
    assert with_site.allows("iot:Subscribe", "topicfilter/x")
    plain = rights(document)
    assert not plain.allows("iot:Publish", "topic/north/x")
    assert not plain.allows("iot:Subscribe", "topicfilter/x")


def test_any_value_condition():
    document = policy(
        allow("iot:Connect", "*"),
        {
            "Effect": "Deny",
            "Action": "iot:Connect",
            "Resource": "*",
            "Condition": {"ForAnyValue:StringEquals": {"iot:ConnectAttributes": "LastWill"}},
        },
    )
    bound = rights(document)
    assert bound.allows("iot:Connect", "client/n1", ["PersistentConnect"])
    assert not bound.allows("iot:Connect", "client/n1", ["PersistentConnect", "LastWill"])


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        ({}, "version None"),
        ({"Version": "2008-10-17", "Statement": []}, "version '2008"),
        ({"Version": "2012-10-17"}, "no statement"),
        ({"Version": "2012-10-17", "Statement": ["x"]}, "not an object"),
        ({"Version": "2012-10-17", "Statement": allow("iot:Fly", "*")}, "'iot:Fly'"),
        ({"Version": "2012-10-17", "Statement": allow([], "*")}, "no action"),
        ({"Version": "2012-10-17", "Statement": allow("iot:Publish", [])}, "no resource"),
        ({"Version": "2012-10-17", "Statement": allow("iot:Publish", [7])}, "not a string"),
        ({"Version": "2012-10-17", "Statement": allow("iot:Publish", "topic/x")}, "no ARN"),
        (
            {"Version": "2012-10-17", "Statement": {**allow("iot:*", "*"), "Effect": "allow"}},
            "effect 'allow'",
        ),
        (
            {"Version": "2012-10-17", "Statement": {**allow("iot:*", "*"), "NotAction": "x"}},
            "'NotAction'",
        ),
        (
            {
                "Version": "2012-10-17",
                "Statement": allow("iot:*", "*", Condition={"IpAddress": {"a": "b"}}),
            },
            "'IpAddress'",
        ),
    ],
)
def test_what_cannot_be_enforced_is_refused(document, cause):
    with pytest.raises(GridnodeError, match=cause):
        Policy(document)
