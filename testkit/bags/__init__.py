"""Recordings for tests, message by message: healthy, as drivers send, and damaged."""
