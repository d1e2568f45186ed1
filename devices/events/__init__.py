"""What happens in the registry, for other people's systems: an outbox with two readers.

Each change of a row leaves an event in the transaction of the change (`recording`). Readers number
what is committed (`stream`): those who ask `GET /api/v1/events` (`waiting`), and `deliver`, which
calls webhooks (`delivering`). (docs/events.md)
"""
