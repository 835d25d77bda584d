"""The tables of the ledger, and who writes each.

Times are seconds since the epoch, UTC. Every table is the durable truth of one kind of fact; bytes live in `storage`.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA = MetaData()

UID = String(64)
KEY = String(64)
MATCHED = String().with_variant(String(collation="C"), "postgresql")
"""Text that is compared as bytes: ranges and prefixes then use the index, whatever the locale of the database."""

instances = Table(  # written by the receiver; `kind` by the judge
    "instances",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("sop_instance_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("path", String(255), nullable=False),  # empty once the file was purged: the row still knows the instance
    Column("size", Integer, nullable=False),
    Column("digest", KEY, nullable=False),
    Column("patient_key", KEY, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("association", String(64), nullable=False),
    Column("stat", Boolean, nullable=False),
    # original | variant (same UID, other bytes, not judged yet) | duplicate | conflict | discarded | withdrawn
    # late (a slice that came when the images of its series were purged: the result stands)
    Column("kind", String(16), nullable=False),
    Column("committed_until", Float),  # promised to its sender by storage commitment: kept at least until then
    Index("ix_instances_series", "series_instance_uid", "id"),
    Index("ix_instances_study", "study_instance_uid"),
    Index("ix_instances_sender", "calling_ae_title", "received_at"),  # when each scanner last sent
    Index(
        "ix_instances_variant",
        "kind",
        sqlite_where=text("kind = 'variant'"),
        postgresql_where=text("kind = 'variant'"),
    ),
    Index(
        "uq_instances_bytes",
        "sop_instance_uid",
        "digest",
        unique=True,
        sqlite_where=text("kind != 'discarded'"),
        postgresql_where=text("kind != 'discarded'"),
    ),
    Index(
        "uq_instances_original",
        "sop_instance_uid",
        unique=True,
        sqlite_where=text("kind = 'original'"),
        postgresql_where=text("kind = 'original'"),
    ),
)

revisions = Table(  # opened and judged by the judge, advanced by the worker
    "revisions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("series_instance_uid", UID, nullable=False),
    Column("study_instance_uid", UID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason_code", String(64)),
    Column("reason_text", Text),
    Column("through_instance_id", Integer, nullable=False),  # the revision is every original up to here
    Column("last_received_at", Float, nullable=False),
    Column("stat", Boolean, nullable=False),
    Column("verdict", Text),  # JSON of the judge's verdict: the problem it gave up on, the facts for the choice of series
    Column("attempt", Integer, nullable=False),  # fencing token: a writer with an older one writes nothing
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),  # earliest next attempt
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("analysis_started_at", Float),  # persisted once; every time in the results comes from it
    Column("answered", Boolean, nullable=False),  # its objects are encoded and stored
    Column("reading_of", Integer, index=True),  # a reader's second reading: the revision whose findings it reports again
    Column("inferred_at", Float),  # with answered_at: how long each stage took
    Column("answered_at", Float),
    Column("images_purged_at", Float),  # by retention, of the whole study
    Column("results_purged_at", Float),
    Column("bundle", String(128)),  # "name@version" of the model bundle that its findings are from
    UniqueConstraint("series_instance_uid", "number"),
    Index("ix_revisions_study", "study_instance_uid"),
    Index("ix_revisions_updated_at", "updated_at"),
    Index("ix_revisions_state_updated_at", "state", "updated_at"),
    Index("ix_revisions_state", "state", "reason_code"),
    Index("ix_revisions_answered_at", "answered_at"),
)

results = Table(  # written by the worker; rejection notes by the judge
    "results",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("revision_id", ForeignKey("revisions.id"), nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("dialect", String(32), nullable=False),  # empty for objects that are the same in every dialect
    Column("sop_instance_uid", UID, nullable=False, unique=True),
    Column("sop_class_uid", UID, nullable=False),
    Column("series_instance_uid", UID, nullable=False),
    Column("path", String(255), nullable=False),
    Column("sha256", KEY, nullable=False),
    Column("size", Integer, nullable=False),
)

catalogue = Table(  # written by the worker with the results; withdrawn by `jobs release | discard`
    "catalogue",
    METADATA,
    Column("result_id", ForeignKey("results.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("patient_id", MATCHED, nullable=False, index=True),
    Column("issuer_of_patient_id", MATCHED, nullable=False),
    Column("patient_name", MATCHED, index=True),  # each group folded: no case, no accents; as sent: in `attributes`
    Column("patient_name_ideographic", MATCHED, index=True),
    Column("patient_name_phonetic", MATCHED, index=True),
    Column("patient_birth_date", MATCHED),
    Column("patient_sex", MATCHED),
    Column("study_instance_uid", MATCHED, nullable=False, index=True),
    Column("study_date", MATCHED, index=True),
    Column("study_time", MATCHED),  # times as HHMMSS.FFFFFF
    Column("accession_number", MATCHED, index=True),
    Column("study_id", MATCHED),
    Column("study_description", MATCHED),
    Column("referring_physician_name", MATCHED),  # folded
    Column("series_instance_uid", MATCHED, nullable=False, index=True),
    Column("series_number", Integer),
    Column("modality", MATCHED),
    Column("series_date", MATCHED),
    Column("series_time", MATCHED),
    Column("series_description", MATCHED),
    Column("body_part_examined", MATCHED),
    Column("sop_instance_uid", MATCHED, nullable=False, unique=True),
    Column("sop_class_uid", MATCHED, nullable=False),
    Column("instance_number", Integer),
    Column("content_date", MATCHED),
    Column("content_time", MATCHED),
    Column("completion_flag", MATCHED),
    Column("verification_flag", MATCHED),
    Column("concept_name_code_value", MATCHED),
    Column("concept_name_coding_scheme", MATCHED),
    Column("template_identifier", MATCHED),
    Column("character_set", String(255), nullable=False),  # Specific Character Set of the object
    Column("withdrawn", Boolean, nullable=False),  # what it was made from was wrong, it was recalled, or its file was purged
    Column("attributes", Text, nullable=False),  # the header as DICOM JSON, without long elements
    Column("header", LargeBinary, nullable=False),  # the complete header as DICOM JSON, without pixel data; zlib
)

deliveries = Table(  # created by the worker with the results, of rejection notes by the judge; advanced by the sender
    "deliveries",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("revision_id", ForeignKey("revisions.id"), nullable=False, index=True),
    Column("result_id", ForeignKey("results.id"), nullable=False),
    Column("destination", String(32), nullable=False),
    Column("position", Integer, nullable=False),  # order within the destination: SEG and picture before SR
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("status", Integer),  # last DIMSE status
    Column("text", Text),  # last words of the destination
    Column("updated_at", Float, nullable=False),
    Column("withdrawn_as", String(16)),  # title of the rejection note that names it, or will if the destination took it
    Column("withdrawn_by", Integer),  # that note, as a result
    Column("confirm_at", Float),  # arrived, and not yet final: when the destination is next asked whether it keeps it
    Column("requests", Integer, nullable=False, server_default="0"),  # how often it was asked since it arrived
    Column("transaction_uid", UID),  # of the newest storage commitment request that names it
    UniqueConstraint("result_id", "destination"),
    Index("ix_deliveries_confirm_at", "confirm_at"),
    Index("ix_deliveries_transaction_uid", "transaction_uid"),
    Index("ix_deliveries_destination", "destination", "state", "updated_at"),  # the health of each destination
    Index(
        "ix_deliveries_withdrawn",
        "destination",
        sqlite_where=text("withdrawn_as IS NOT NULL AND withdrawn_by IS NULL"),
        postgresql_where=text("withdrawn_as IS NOT NULL AND withdrawn_by IS NULL"),
    ),
)

rejected_sources = Table(  # written by the judge: what rejection notes of PACS and scanners name, received or not
    "rejected_sources",
    METADATA,
    Column("sop_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False),
    Column("title", String(16), nullable=False),
    Column("rejected_at", Float, nullable=False),
)

destinations = Table(  # a row once something is wrong: away, written by the sender; held, written by people
    "destinations",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("held_since", Float),
    Column("held_by", String(64)),
    Column("away_since", Float),
    Column("refuses", Boolean, nullable=False),  # it answers and will not have us: a person must mend it
    Column("text", Text),  # its last words, or the network's
    Column("failures", Integer, nullable=False),  # in a row, until something is taken
    Column("probe_at", Float),  # when it is tried next while it is away
)

commitments = Table(  # what we ask of destinations; written by the sender before it asks
    "commitments",
    METADATA,
    Column("transaction_uid", UID, primary_key=True),
    Column("destination", String(32), nullable=False),
    Column("requested_at", Float, nullable=False),
)

commitment_reports = Table(  # N-EVENT-REPORTs as they came; appended by receiver and sender, applied by the judge
    "commitment_reports",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("transaction_uid", UID, nullable=False),
    Column("at", Float, nullable=False),
    Column("committed", Text, nullable=False),  # JSON: SOP Instance UIDs
    Column("failed", Text, nullable=False),  # JSON: SOP Instance UID -> Failure Reason
    Column("applied_at", Float, index=True),
)

promises = Table(  # what senders ask of us; written by the receiver before it answers
    "promises",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("transaction_uid", UID, nullable=False),
    Column("calling_ae_title", String(16), nullable=False),
    Column("called_ae_title", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("report", Text, nullable=False),  # JSON: what is reported of each instance
    Column("attempts", Integer, nullable=False),
    Column("report_at", Float, index=True),  # when it is reported next; NULL: its receipt is here, or given up
    UniqueConstraint("transaction_uid", "calling_ae_title"),
)

assessments = Table(  # what a reader said of each finding; written with the revision that reports it, never changed
    "assessments",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("revision_id", ForeignKey("revisions.id"), nullable=False, index=True),
    Column("level", String(4), nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("corrected_level", String(4)),
    Column("reader", String(64), nullable=False),  # account
    Column("reader_name", String(64), nullable=False),  # person name as DICOM writes it (PN)
    Column("at", Float, nullable=False),
    UniqueConstraint("revision_id", "level"),
)

holds = Table(  # written by the judge and by people (`jobs release | discard`, the pages)
    "holds",
    METADATA,
    Column("study_instance_uid", UID, primary_key=True),
    Column("reason_code", String(64), nullable=False),
    Column("reason_text", Text, nullable=False),
    Column("since", Float, nullable=False),
    Column("lifted_at", Float),  # kept, so that what a person released is not held again for the same reason
)

events = Table(  # appended by everyone, never changed
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("series_instance_uid", UID, index=True),
    Column("study_instance_uid", UID, index=True),
    Column("kind", String(32), nullable=False),
    Column("text", Text, nullable=False),
)

tombstones = Table(  # what remains of a series when its rows are purged; never deleted
    "tombstones",
    METADATA,
    Column("series_instance_uid", UID, primary_key=True),
    Column("study_instance_uid", UID, nullable=False, index=True),
    Column("last_number", Integer, nullable=False),  # the next revision has a higher one: its UIDs are new
    Column("source_digest", KEY),  # of the instances it had; empty: the same instances are to be read when they come again
    Column("at", Float, nullable=False),
    Column("by", String(64), nullable=False),  # "retention", or the account of a person
)

removals = Table(  # files whose rows are marked or gone: written with that, deleted when the file is
    "removals",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("store", String(16), nullable=False),  # spool: a file | results: a key
    Column("path", String(255), nullable=False),
)

leases = Table(  # the judge loop's lock and the heartbeats of executors
    "leases",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("expires_at", Float, nullable=False),
)
