"""Be there, and see it: with the generated Python client, against the service that HEADCOUNT_URL names."""

import json
import os
import uuid
from collections.abc import Iterator

import httpx
from headcount_client import AuthenticatedClient
from headcount_client.api.presence import get_roster, heartbeats, join, leave
from headcount_client.api.streams import room_events
from headcount_client.api.users import put_user
from headcount_client.models import (
    Beat,
    BeatAnswers,
    DiffFrame,
    JoinBody,
    Joined,
    LeaveBody,
    Life,
    ProfileBody,
    Reason,
    RosterPage,
    SnapshotFrame,
    User,
)
from httpx_sse import ServerSentEvent, connect_sse

ROOM = "python"


def client(credential: str) -> AuthenticatedClient:
    return AuthenticatedClient(base_url=os.environ["HEADCOUNT_URL"], token=os.environ[credential])


def following(events: Iterator[ServerSentEvent], name: str) -> dict[str, object]:
    """The next frame with this name."""
    found: dict[str, object] = json.loads(next(event for event in events if event.event == name).data)
    return found


def main() -> None:
    server, user = client("HEADCOUNT_SERVER_KEY"), client("HEADCOUNT_TOKEN")
    session = uuid.uuid4()

    stored = put_user.sync("ann", client=server, body=ProfileBody(name="Ann Berg"))
    assert isinstance(stored, User) and stored.name == "Ann Berg"

    # The generator knows no streams: what to ask for is generated, reading it is httpx-sse's.
    ask = room_events._get_kwargs(ROOM)
    # `sync` comes every 15 s: silence of 40 s is a lost line.
    http = user.get_httpx_client()
    with connect_sse(http, **ask, timeout=httpx.Timeout(10, read=40)) as source:
        events = source.iter_sse()
        assert SnapshotFrame.from_dict(following(events, "snapshot")).count == 0

        joined = join.sync(ROOM, client=user, body=JoinBody(session=session))
        assert isinstance(joined, Joined) and joined.created
        diff = DiffFrame.from_dict(following(events, "diff"))
        assert diff.joined[0].name == "Ann Berg"

        beats = heartbeats.sync(client=user, body=Beat(session=session))
        assert isinstance(beats, BeatAnswers) and beats.sessions[0].state == Life.ALIVE

        roster = get_roster.sync(ROOM, client=user)
        assert isinstance(roster, RosterPage) and [member.id for member in roster.members] == ["ann"]

        leave.sync(ROOM, client=user, body=LeaveBody(session=session))
        diff = DiffFrame.from_dict(following(events, "diff"))
        assert (diff.left[0].id, diff.left[0].reason) == ("ann", Reason.LEFT)
    print("Python: fine")


main()
