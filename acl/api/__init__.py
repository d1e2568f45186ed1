"""Command permissions over the API."""
