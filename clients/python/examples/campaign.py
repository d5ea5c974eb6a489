"""Send a campaign once to each VIP, without contacts who unsubscribed. Run it again after a crash."""

import os

from audience_client import AudienceClient, Member


def deliver(member: Member) -> None:
    """Stands for your email provider, with the member's id as its idempotency key."""
    print("send to", member.fields["email"])


def campaign(client: AudienceClient) -> int:
    """The number of recipients."""
    segment = client.segment("VIPs")
    client.register_use(segment.id, "campaign", "spring")
    print("about", client.reach(segment.id, purpose="email").count, "recipients")
    recipients = client.launch("spring", segment.id, purpose="email", fields=["email"])
    count = 0
    for member in recipients:
        deliver(member)
        count += 1
    client.release_use(segment.id, "campaign", "spring")
    return count


if __name__ == "__main__":
    address = os.environ.get("ADDRESS", "127.0.0.1:50051")
    with AudienceClient(address, org="demo", token=os.environ["TOKEN"]) as connected:
        print("sent to", campaign(connected))
