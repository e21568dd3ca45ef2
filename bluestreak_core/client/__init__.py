"""What needs no worker: starting workflows, waiting for them, finding and controlling them.

`client` is the facade, with `message_calls`. The work is done in `starting`, `waiting`, `sending`,
`resolving`, `control` and `search`, over one `open_store`.
"""

from bluestreak_core.client.client import Client
from bluestreak_core.client.resolving import Resolution
from bluestreak_core.client.sending import Send
from bluestreak_core.client.starting import Start
from bluestreak_core.client.timeline import EventKind, Timeline, TimelineEvent

__all__ = ["Client", "EventKind", "Resolution", "Send", "Start", "Timeline", "TimelineEvent"]
