"""What is asked and answered, as JSON: the models behind the checks and the API's page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

REQUEST_ID = r"^[A-Za-z0-9._-]{1,64}$"
ASK: JsonDict = {"text": "The bank raised its rates, and shares fell."}
ASK_PAIR: JsonDict = ASK | {"second": "Shares fell after the bank had raised its rates."}


class Asked(BaseModel):
    """What must be as it is written here: no further keys, no other types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Text(Asked):
    """A text."""

    model_config = ConfigDict(json_schema_extra={"examples": [ASK]})
    text: str


class Pair(Asked):
    """Two texts that are judged together."""

    model_config = ConfigDict(json_schema_extra={"examples": [ASK_PAIR]})
    text: str
    second: str


Row = TypeVar("Row")
Item = TypeVar("Item")


class Rows(Asked, Generic[Row]):
    """Several rows, answered by one version."""

    rows: list[Row]


class _Feedback(Asked):
    label: str = Field(min_length=1, description="The right one, as a row of a source has it")
    consent: bool = Field(description="Whether the text may be kept and learned from")
    id: str | None = Field(None, pattern=REQUEST_ID, description="Of the request that was answered")
    version: str | None = Field(None, max_length=200, description="That answered, as in its answer")


class TextFeedback(Text, _Feedback):
    """A text's right label."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [ASK | {"label": "business", "consent": True}]}
    )


class PairFeedback(Pair, _Feedback):
    """A pair's right label."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [ASK_PAIR | {"label": "same", "consent": True}]}
    )


# what MLflow's scoring server takes: further keys, such as params, are read past as it does


class _Mlflow(BaseModel):
    model_config = ConfigDict(strict=True)


class Columns(_Mlflow):
    """A pair of texts as a row of a table."""

    text: str
    second: str


class Inputs(_Mlflow, Generic[Item]):
    """As MLflow's client sends it."""

    inputs: list[Item]


class Instances(_Mlflow, Generic[Item]):
    """As TensorFlow's servers take it."""

    instances: list[Item]


def _records(*columns: str) -> Any:
    """Rows by column. Described more narrowly than they are taken: further columns do no harm."""
    text = {"type": "string"}
    row = {"type": "object", "properties": dict.fromkeys(columns, text), "required": columns}
    return list[Annotated[dict[str, Any], WithJsonSchema(row)]]


def _table(*columns: str) -> Any:
    """A table, described as narrowly."""
    cells = {"type": "string"}
    row = {"type": "array", "items": cells, "minItems": len(columns), "maxItems": len(columns)}
    table = {
        "type": "object",
        "properties": {"columns": {"const": columns}, "data": {"type": "array", "items": row}},
        "required": ["columns", "data"],
    }
    return Annotated[Table, WithJsonSchema(table)]


class Table(_Mlflow):
    columns: list[str]
    data: list[list[Any]]


class TextRecords(_Mlflow):
    """The rows of a pandas table whose column is text."""

    dataframe_records: _records("text")  # type: ignore[valid-type]


class PairRecords(_Mlflow):
    """The rows of a pandas table whose columns are text and second."""

    dataframe_records: _records("text", "second")  # type: ignore[valid-type]


class TextSplit(_Mlflow):
    """A pandas table whose column is text."""

    dataframe_split: _table("text")  # type: ignore[valid-type]


class PairSplit(_Mlflow):
    """A pandas table whose columns are text and second."""

    dataframe_split: _table("text", "second")  # type: ignore[valid-type]


@dataclass(frozen=True)
class Shape:
    """What is asked of a version: texts, or pairs of texts."""

    columns: Sequence[str]
    row: type[BaseModel]
    rows: type[BaseModel]
    feedback: type[BaseModel]
    invocations: dict[str, type[BaseModel]]
    """By the key that MLflow knows the format by; the first one that is there counts."""


TEXTS = Shape(
    ("text",),
    Text,
    Rows[Text],
    TextFeedback,
    {
        "inputs": Inputs[str],
        "instances": Instances[str],
        "dataframe_split": TextSplit,
        "dataframe_records": TextRecords,
    },
)
PAIRS = Shape(
    ("text", "second"),
    Pair,
    Rows[Pair],
    PairFeedback,
    {
        "inputs": Inputs[Columns],
        "instances": Instances[Columns],
        "dataframe_split": PairSplit,
        "dataframe_records": PairRecords,
    },
)


# answers


class Entity(BaseModel):
    """A piece of the text."""

    start: int = Field(description="Its first character, in Unicode code points from 0")
    end: int = Field(description="The character after its last")
    label: str
    text: str
    score: float


class Details(BaseModel):
    """What a task tells besides: each has its own keys, or none."""

    model_config = ConfigDict(extra="allow")
    labels: list[str] = Field([], description="The classes, where a text may have several")
    entities: list[Entity] = Field([], description="Pieces of the text, in its order")
    answer: str = Field("", description="The piece of the second text that answers, if any")
    start: int = Field(0, description="Its first character in the second text")
    end: int = Field(0, description="The character after its last")


class Said(BaseModel):
    """What the version says of a row."""

    label: str = Field(description="One string, as a row's label is written")
    score: float = Field(description="In [0, 1]: how sure it is of the whole label")
    scores: dict[str, float] = Field(description="Of each class, where a text has classes")
    details: Details


class Prediction(Said):
    """An answer, and who gave it."""

    id: str = Field(description="Of the request")
    version: str = Field(description="Recipe and number, as news/3")


class Predictions(BaseModel):
    """An answer to each row, in order, all of them by one version."""

    id: str
    version: str
    answers: list[Said]


class Columned(BaseModel):
    """A row of MLflow's table: details, and score_<class> of each class, are further columns."""

    model_config = ConfigDict(extra="allow")
    label: str
    score: float


class Invoked(BaseModel):
    """As MLflow's scoring server answers."""

    predictions: list[Columned]


class Kept(BaseModel):
    """Feedback that was kept."""

    id: str = Field(description="Of the text, as its row has it")
    version: str
    consent: bool


class Ready(BaseModel):
    """True if it answers, and by which version."""

    ready: bool
    version: str | None
    previous: str | None
    refused: dict[str, str] = Field(description="Why a version was not let in, by its number")
    texts: int = Field(description="1, or 2 where pairs are judged; 0 while there is no version")
    key: bool = Field(description="Whether an API key is asked for")


class Alive(BaseModel):
    """That the server runs."""

    alive: bool


class Error(BaseModel):
    """What is wrong, in one line."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"error": "text: field required"}]})
    error: str
