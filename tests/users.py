"""Users who log in at Tiled with the password ``<name>-secret``."""

from typing import Any

import httpx

PATIENCE = 60.0
"""Seconds in which a server on a busy machine answers; httpx itself waits for 5."""


def key_of(uri: str, user: str) -> str:
    """Log in, and return a key that may do what the user may."""
    form = {"grant_type": "password", "username": user, "password": f"{user}-secret"}
    wanted = {"scopes": ["inherit"], "expires_in": 3600}
    token = _posted(f"{uri}/api/v1/auth/provider/toy/token", data=form)["access_token"]
    answer = _posted(f"{uri}/api/v1/auth/apikey", json=wanted, headers={"Authorization": f"Bearer {token}"})
    return str(answer["secret"])


def _posted(address: str, **what: Any) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.post(address, timeout=PATIENCE, **what).raise_for_status().json()
    return answer
