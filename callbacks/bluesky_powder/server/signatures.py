"""What endpoints depend on, found out once instead of at each request.

FastAPI 0.165 (and those before) reads the signatures of all that an endpoint depends on again at each request, as soon
as an app has put anything in the place of a dependency; Tiled 0.2.20 does so with its settings. That is 6 ms of the
server's processor time a request, of 11 for the shortest and 35 for one that stores a pattern.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

logger = logging.getLogger("bluesky_powder.server")

MOST = 4096
"""Answers that are remembered, some 300 an app; the one that was not asked for longest is forgotten first."""


class Remembered:
    """A function of keywords whose answers are remembered.

    FastAPI shares what it found out between requests itself where nothing was put in a dependency's place, so it may be
    shared here, too.

    Parameters
    ----------
    function
        Gives the same answer to the same keywords, and nobody changes it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()
        self._changing = threading.Lock()

    def __call__(self, **keywords: Any) -> Any:
        """Return the function's answer."""
        key = tuple((name, _hashable(value)) for name, value in sorted(keywords.items()))
        try:
            with self._changing:
                answer = self._answers[key]
                self._answers.move_to_end(key)
                return answer
        except KeyError:
            pass
        except TypeError:  # a keyword that cannot be remembered
            return self.function(**keywords)
        answer = self.function(**keywords)
        with self._changing:
            self._answers[key] = answer
            while len(self._answers) > MOST:
                self._answers.popitem(last=False)
        return answer


def remember_signatures() -> None:
    """Have FastAPI remember them, in this process; all stays as it was where this FastAPI does it in another way."""
    from fastapi.dependencies import utils

    found = getattr(utils, "get_dependant", None)
    if isinstance(found, Remembered):
        return
    if not callable(found):
        logger.info("this FastAPI reads signatures in a way that is not known here")
        return
    utils.get_dependant = Remembered(found)


def _hashable(value: Any) -> Any:
    return ("list", *value) if isinstance(value, list) else value
