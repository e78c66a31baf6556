"""The queue's tables, and connections that keep what they were told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from anyref.service.settings import ServiceError

BUSY_SECONDS = 30

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    # BIGINT would not count up by itself in SQLite
    sa.Column(
        "seq",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("model", sa.String(255), nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("num_frames", sa.Integer, nullable=False),
    sa.Column("fps", sa.Float, nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("fingerprint", sa.String(64), nullable=False, default=""),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("worker", sa.String(128)),
    sa.Column("beat", sa.Integer, nullable=False, default=0),
    sa.Column("cancelling", sa.Boolean, nullable=False, default=False),
    sa.Column("stage", sa.String(16)),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer, nullable=False, default=0),
    sa.Column("seconds_left", sa.Float),
    sa.Column("preview", sa.Integer, nullable=False, default=0),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error", sa.Text),
    sa.Column("content", sa.String(255)),
    sa.Column("thumbnail", sa.String(255)),
    sa.Column("content_bytes", sa.BigInteger),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Index("jobs_by_state", "state", "seq"),
    sa.Index("jobs_by_owner", "owner", "seq"),
    sa.Index("jobs_of_owner_by_state", "owner", "state"),
    sa.UniqueConstraint("owner", "idempotency_key", name="jobs_once_per_key"),
    sqlite_autoincrement=True,  # a deleted row's place is never given again
)

previews = sa.Table(
    "previews",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("picture", sa.LargeBinary, nullable=False),
)


def connect(url: str) -> sa.Engine:
    """An engine whose tables exist.

    Raises:
        ServiceError: for a URL that is none, a missing driver, or a database that does not answer.
    """
    try:
        parsed = sa.make_url(url)
        engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _server(parsed)
        with engine.begin() as connection:
            _lock_schema(connection)
            metadata.create_all(connection)
    except (SQLAlchemyError, ImportError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        raise ServiceError(
            f"queue database {_shown(url)!r} cannot be used: {reason}; give "
            "sqlite:////folder/queue.sqlite or postgresql+psycopg://user@host/name"
        ) from error
    return engine


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise ServiceError("a queue in memory would be lost; give sqlite:////folder/queue.sqlite")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, pool_size=8)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an accepted job survives a power cut
        connection.execute("PRAGMA journal_size_limit=67108864")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _server(url: sa.URL) -> sa.Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return sa.create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=16)


def _lock_schema(connection: sa.Connection) -> None:
    """Two processes that start together make the tables once."""
    lock(connection, "schema")


def lock(connection: sa.Connection, name: str) -> None:
    """Be alone with a name until the transaction ends; SQLite's writers always are."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"anyref:{name}"}
        )


def is_full(error: BaseException) -> bool:
    """True when the database says that its disk is full."""
    return isinstance(error, OperationalError) and (
        "disk is full" in str(error) or "No space left" in str(error)
    )


def _shown(url: str) -> str:
    """The URL without a password."""
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "given"
