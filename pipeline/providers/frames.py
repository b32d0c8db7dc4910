"""What surrounds the messages of a request: the same for every request of a job to a model, so it is made once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from pipeline.errors import JobError
from pipeline.providers import bodies, schemas
from pipeline.providers.capabilities import Options, load_options, merged
from pipeline.records import Model, Parameters

_encoder = msgspec.json.Encoder()


class Frame(NamedTuple):
    """The fields beside the messages, encoded, up to and without the closing brace."""

    model: Model
    parameters: Parameters
    options: Options
    instruction: str  # what the prompt is to say of the form of the answer
    path: str
    head: bytes

    def around(self, rest: bytes) -> bytes:
        """Return the whole body, where *rest* is a JSON object with the other fields."""
        return b"".join((self.head, b",", rest[1:]))


class Frames:
    """The frames of a dialect. `fields_of` returns the fields beside the messages; they must not be empty."""

    def __init__(
        self,
        ours: frozenset[str],
        path_of: Callable[[Model, Options], str],
        fields_of: Callable[[Model, Parameters, Options], dict[str, Any]],
        *,
        has_tools: bool = False,
    ) -> None:
        self._ours = ours
        self._has_tools = has_tools
        self._path_of = path_of
        self._fields_of = fields_of
        self._frames: dict[str, Frame] = {}

    def of(self, model: Model, parameters: Parameters) -> Frame:
        """Return the frame of *model*.

        Raises:
            JobError: when its options are not what the dialect knows them to be.
        """
        frame = self._frames.get(model.name)
        if frame is None or frame.model is not model or frame.parameters is not parameters:
            frame = self._frames[model.name] = self._make(model, parameters)
        return frame

    def _make(self, model: Model, parameters: Parameters) -> Frame:
        options = load_options(model, self._ours)
        if options.json_schema == "tool" and not self._has_tools:
            raise JobError(f'models.{model.name}.options.json_schema: "tool" is for the adapter anthropic alone')
        fields = merged(self._fields_of(model, parameters, options), options.body)
        path = self._path_of(model, options)
        told = schemas.instruction(parameters, options)
        return Frame(model, parameters, options, told, path, _encoder.encode(fields)[:-1])


def encoded(value: Any) -> bytes:
    """Return *value* as JSON; lone surrogates, which can't be sent, become U+FFFD."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return bodies.encode_with_surrogates(value)
